"""Trains an inpainting model: it sees a mask, and the latents of the picture around it, beside its own latents.

The layout is that of Stable Diffusion 1.5 inpainting (Rombach et al. 2022): 1 + C further channels whose first weights
are zero; the masks are random, and a quarter of them cover everything.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import Tensor

from sfumato.data.pictures.protocol import Sample, SampleSource
from sfumato.errors import SfumatoError
from sfumato.images.mask import touched
from sfumato.pipeline.latents import encode
from sfumato.spec import Spec
from sfumato.train.beside import BesideTask, BesideTraining
from sfumato.train.cache import ENCODER, joined_hash, weights_hash
from sfumato.train.masks import random_mask

VERSION = 1  # of the masks, which keys name


@dataclass(frozen=True, kw_only=True)
class InpaintTraining(BesideTraining):
    """Recipe of an inpainting model; see also `BesideTraining`.

    Each picture has so many `masks`: boxes, strokes and sides. The mask of the share `whole_mask` of samples covers
    everything.
    """

    masks: int = 8
    whole_mask: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.masks < 1:
            raise SfumatoError(f"masks is {self.masks}; expected a whole number from 1")
        if not 0 <= self.whole_mask <= 1:
            raise SfumatoError(f"whole_mask is {self.whole_mask}; expected a share from 0 to 1")


def make(
    cfg: InpaintTraining, data: SampleSource, folder: Path, device: torch.device, *, model: str | None = None
) -> InpaintTask:
    """Returns the task of a run in `folder`; the inputs are described in `train.registry`."""
    return InpaintTask(replace(cfg, model=model or cfg.model), data, folder, device)


class InpaintTask(BesideTask):
    """Trains a model to fill holes, see `BesideTask`."""

    cfg: InpaintTraining
    READS = "a mask"

    def __init__(self, cfg: InpaintTraining, data: SampleSource, folder: Path, device: torch.device):
        super().__init__(cfg, data, folder, device)
        self._encoder = weights_hash(self.base.vae, ENCODER, self.base.vae.cfg)

    def channels(self, spec: Spec) -> int:
        """See `BesideTask`: the mask, and the latents of what is around it."""
        return 1 + spec.vae.latent_channels

    def beside(self, sample: Sample, rng: np.random.Generator | None) -> Tensor:
        """See `BesideTask`."""
        number: int | None = 0
        if rng is not None:
            whole, drawn = rng.random() < self.cfg.whole_mask, int(rng.integers(self.cfg.masks))
            number = None if whole else drawn
        seen = sample.size if number is None else (self.pictures.key(sample), number)
        key = joined_hash("masked", seen, VERSION, self._encoder)
        return self.cache.tensors(key, lambda: {"beside": self._encoded(sample, number)})["beside"]

    def shown(self, sample: Sample) -> Tensor:
        """See `BesideTask`."""
        return self.pictures.pixels(sample) * (1 - self.mask(sample, 0)[0])

    def mask(self, sample: Sample, number: int | None) -> Tensor:
        """Returns mask `number` of a sample, (1, 1, H, W), 1 in the hole; None covers everything."""
        width, height = sample.size
        if number is None:
            return torch.ones(1, 1, height, width)
        return random_mask(torch.zeros(0, height, width), Random(f"mask {self.pictures.key(sample)} {number}"))

    def _encoded(self, sample: Sample, number: int | None) -> Tensor:
        """Mask and latents (1, 1 + C, h, w) of a picture whose hole is grey, float16."""
        mask, pixels = self.mask(sample, number), self.pictures.pixels(sample)[None]
        rest = encode(self.base.vae, (pixels * (1 - mask)).to(self.device))
        return torch.cat([touched(mask, *rest.shape[2:]).to(rest), rest], 1).half()
