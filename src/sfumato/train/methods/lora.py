"""Trains a LoRA or one of its kin: small differences of the weights of a model, in a file of their own.

LoRA (Hu et al. 2021), with kernels as LyCORIS' LoCon has them; DoRA (Liu et al. 2024); LoHa and LoKr (Yeh et al. 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import ClassVar

import torch
from torch import Tensor

from sfumato.data.pictures.protocol import CaptionedPictures, Sample, SampleSource
from sfumato.diffusion.cond import Cond
from sfumato.nets.prior import Underlay
from sfumato.pipeline.latents import autoencoding
from sfumato.pipeline.model import Model
from sfumato.train.cache import EncodedPictures
from sfumato.train.conditions import Conditions
from sfumato.train.drafts import DRAFT_ERROR
from sfumato.train.fine_tuning import FineTuning, FineTuningTask
from sfumato.train.learnt import Lora, LoraOptions
from sfumato.train.restyle import Restyled, Style


@dataclass(frozen=True, kw_only=True)
class LoraTraining(FineTuning, LoraOptions):
    """Recipe of a LoRA, or of one of its kin; see also `LoraOptions` and `Shape`.

    With `style` the pictures are redrawn in a style first, see `train.restyle`.
    """

    RENAMED: ClassVar[dict[str, str]] = {
        "init": "model", "examples": "data.examples", "held_out": "data.held_out", "single": "data.single",
        "drop": "data.caption_dropout",
    }  # fmt: skip

    style: Style | None = None


def make(
    cfg: LoraTraining, data: SampleSource, folder: Path, device: torch.device, *, model: str | None = None
) -> LoraTask:
    """Returns the task of a run in `folder`; the inputs are described in `train.registry`."""
    return LoraTask(replace(cfg, model=model or cfg.model), data, folder, device)


class LoraTask(FineTuningTask):
    """Trains differences of a model's weights, see `FineTuningTask`."""

    cfg: LoraTraining

    def _learnt(self) -> Lora:
        return Lora(self.base, self.cfg)

    def _pictures(self, data: SampleSource, folder: Path) -> CaptionedPictures:
        self._plain = super()._pictures(data, folder)
        return self._plain if self.cfg.style is None else Restyled(self._plain, self.cfg.style)

    def _told(self) -> Conditions:
        if self.cfg.style is None or self.base.prior is None:
            return super()._told()
        return Redrawn(self.model, EncodedPictures(self._plain, self.base.vae, self.cache))


class Redrawn(Conditions):
    """The conditioning of restyled pictures by a model with a scene prior: their drafts are the plain pictures.

    The prior would lay out a caption in its own way, which is not how the picture is. `plain` encodes the pictures
    without the style; errors as large as a draft has are added.
    """

    def __init__(self, model: Model, plain: EncodedPictures):
        super().__init__(model)
        self._plain = plain

    def __call__(self, samples: Sequence[Sample]) -> Cond:
        """See `Conditions`."""
        told, drafts = super().__call__(samples), list[Tensor]()
        for sample in samples:
            latents = self._plain(sample).float()
            noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(sample.picture))
            drafts.append(latents + DRAFT_ERROR * noise)
        return replace(told, concat=torch.stack(drafts).to(self.model.device))

    @torch.no_grad()
    def _encoded(self, caption: str, seed: int, size: tuple[int, int]) -> Cond:
        assert self.model.prior is not None, "only models with one are told this way"
        vae, words = self.model.spec.vae, self.encode.words(caption)
        width, height = (edge // vae.factor for edge in size)
        nothing = Underlay(torch.zeros(1, vae.latent_channels, height, width), strength=0.0, goes_on=True)
        return self.model.prior(words, Random(seed), height, width, autoencoding(self.model.vae), nothing).to("cpu")
