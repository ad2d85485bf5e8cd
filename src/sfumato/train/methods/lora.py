"""Trains a LoRA or one of its kin: small differences of the weights of a model, in a file of their own.

LoRA (Hu et al. 2021), with kernels as LyCORIS' LoCon has them; DoRA (Liu et al. 2024); LoHa and LoKr (Yeh et al. 2023).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from sfumato.data.pictures.protocol import CaptionedPictures, Sample, SampleSource
from sfumato.nets.layout import Region
from sfumato.train.cache import EncodedPictures
from sfumato.train.fine_tuning import FineTuning, FineTuningTask
from sfumato.train.learnt import Lora, LoraOptions
from sfumato.train.new_thing import PicturedWord, pictured_word
from sfumato.train.restyle import Restyled, Style


@dataclass(frozen=True, kw_only=True)
class LoraTraining(FineTuning, LoraOptions):
    """Recipe of a LoRA, or of one of its kin; see also `LoraOptions` and `Shape`.

    With `style` the pictures are redrawn in a style first, see `train.restyle`. With `word`, for models with a scene
    prior, the file brings that word for the thing that the pictures show, read like the known word `like`.
    """

    RENAMED: ClassVar[dict[str, str]] = {
        "init": "model", "examples": "data.examples", "held_out": "data.held_out", "single": "data.single",
        "drop": "data.caption_dropout",
    }  # fmt: skip

    style: Style | None = None
    word: str = ""
    like: str = ""


def make(
    cfg: LoraTraining, data: SampleSource, folder: Path, device: torch.device, *, model: str | None = None
) -> LoraTask:
    """Returns the task of a run in `folder`; the inputs are described in `train.registry`."""
    return LoraTask(replace(cfg, model=model or cfg.model), data, folder, device)


class LoraTask(FineTuningTask):
    """Trains differences of a model's weights, see `FineTuningTask`."""

    cfg: LoraTraining

    def _word(self) -> PicturedWord | None:
        cfg = self.cfg
        return pictured_word(self.base, cfg.word, cfg.like, self.pictures) if cfg.word else None

    def _learnt(self) -> Lora:
        return Lora(self.base, self.cfg, self.word)

    def _pictures(self, data: SampleSource, folder: Path) -> CaptionedPictures:
        plain = super()._pictures(data, folder)
        self._plain = EncodedPictures(plain, self.base.vae, self.cache)
        return plain if self.cfg.style is None else Restyled(plain, self.cfg.style)

    def draft(self, sample: Sample, turn: int) -> Tensor | Region | None:
        """See `FineTuningTask`; the draft of a redrawn picture is the picture as it was."""
        return super().draft(sample, turn) if self.cfg.style is None else self._plain(sample)
