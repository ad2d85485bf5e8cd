"""What the methods share by which a model learns to read more than its latents, on pictures with captions.

A model that draws from words alone gains the channels, whose first weights are zero, so that it starts with what it
draws already; one that reads them learns on.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sfumato.data.pictures.protocol import Sample
from sfumato.diffusion.cond import Cond
from sfumato.errors import SfumatoError
from sfumato.families import relative
from sfumato.nets.mmdit import MMDiT
from sfumato.nets.unet import UNet
from sfumato.pipeline.batch import Request, decoded, trajectories
from sfumato.pipeline.model import Model
from sfumato.seeding import stream
from sfumato.spec import Spec
from sfumato.train.conditions import Conditions
from sfumato.train.fine_tuning import SHOWN, FineTuning, FineTuningTask, by_size, settings_for
from sfumato.train.learnt import Learnt, LoraOrWhole, with_parts
from sfumato.train.sheet import sheet
from sfumato.train.task import Batch
from sfumato.train.variant import widened

BESIDE = "beside"  # the entry of a batch


@dataclass(frozen=True, kw_only=True)
class BesideTraining(FineTuning, LoraOrWhole):
    """What the recipes have by which a model reads something beside its latents; see also `LoraOrWhole`.

    [lora] is for models that read it already.
    """


class BesideTask(FineTuningTask):
    """Trains a model that reads something beside its latents, see `FineTuningTask`."""

    cfg: BesideTraining
    READS: ClassVar[str]
    """What is read, for messages."""

    @abstractmethod
    def channels(self, spec: Spec) -> int:
        """Returns how many channels the network reads beside its latents."""

    @abstractmethod
    def beside(self, sample: Sample, rng: np.random.Generator | None) -> Tensor:
        """Returns what is read beside a sample's latents, (1, Ci, h, w), on the CPU.

        Without `rng` it is the same at each time.
        """

    @abstractmethod
    def shown(self, sample: Sample) -> Tensor:
        """Returns that as a picture (3, H, W) for a sheet."""

    def _fitted(self, base: Model) -> Model:
        channels = self.channels(base.spec)
        self._gained = base.spec.beside_latents != channels or base.spec.low_res is not None
        return reading(base, channels, self.READS) if self._gained else base

    def _learnt(self) -> Learnt:
        if self.cfg.lora is not None and self._gained:
            raise SfumatoError(
                f"{self.cfg.model} does not read {self.READS} yet, which a LoRA alone cannot change; leave out [lora], "
                "or give a model that does"
            )
        return self.cfg.learnt(self.base)

    def batch(self, step: int) -> Batch:
        """Returns what `FineTuningTask` does, and what is read `beside` the latents."""
        chance = stream(self.cfg.loop.seed, BESIDE, step)
        return super().batch(step) | {
            BESIDE: torch.cat([self.beside(sample, chance) for sample in self._samples(step)]).float()
        }

    def conditions(self, batch: Batch, made: Conditions | None = None) -> Cond:
        """Returns the conditioning of a batch's rows, with what is read beside."""
        return replace(super().conditions(batch, made), concat=batch[BESIDE].to(self.device))

    def _measured(self, samples: Sequence[Sample]) -> Cond:
        beside = torch.cat([self.beside(sample, None) for sample in samples])
        return replace(super()._measured(samples), concat=beside.float().to(self.device))

    @torch.no_grad()
    def samples(self) -> Image.Image:
        """Returns pictures, what is read beside them, and what is drawn with that, as trained and before."""
        samples = by_size(self.pictures.validation())[0][:SHOWN]
        rows = [torch.stack(list(map(look, samples))) for look in (self.pictures.pixels, self.shown)]
        settings = settings_for(self.model, *samples[0].size, self.cfg.sheet_steps)
        requests = [Request(one.caption, one.picture, self.beside(one, None).float()) for one in samples]
        for model in (self.model, self.base):
            rows.append(decoded(model.vae, trajectories(model, requests, settings)[:, -1]).cpu())
        return sheet(rows)


def reading(base: Model, channels: int, what: str) -> Model:
    """Returns a model that reads so many channels beside its latents, and draws as before.

    `what` is in them. Raises SfumatoError for a model that reads something else, and for a family in which no model
    reads that.
    """
    spec, network = base.spec, base.denoiser.network
    if spec.prior is not None:
        raise SfumatoError(f"{base.name} draws from a draft of its own; `sfumato train concat` teaches it {what}")
    if spec.beside_latents or spec.low_res is not None:
        raise SfumatoError(f"{base.name} works from another picture; give a model that draws from words alone")
    own = relative(spec, channels)
    if own is not None:
        spec = replace(spec, family=own.family, title=own.title, variant=own.variant, depth=own.depth)
    elif spec.transformer is None or channels != spec.vae.latent_channels + 1:
        raise SfumatoError(f"no model of the kind of {base.name} ({spec.title}) reads {what}; give a 1.x or 2.x model")
    assert isinstance(network, UNet | MMDiT), "no other network draws a model of these families"
    wider = widened(network, channels).to(base.device).requires_grad_(False)
    sizes: dict[str, Any] = {"unet" if spec.transformer is None else "transformer": wider.cfg}
    return with_parts(base, spec=replace(spec, **sizes), denoiser=replace(base.denoiser, network=wider))
