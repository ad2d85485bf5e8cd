"""Pictures that are drawn on, for models with a prior."""

from __future__ import annotations

from torch import Tensor

from sfumato.images.mask import filled, touched
from sfumato.nets.layout import Region
from sfumato.nets.prior import Underlay
from sfumato.nets.vae import VAE
from sfumato.pipeline.latents import encode


def hole_of(vae: VAE, pixels: Tensor, mask: Tensor) -> Underlay:
    """The part of a picture (1, 3, H, W) that is to be drawn anew, white in `mask` (1, 1, H, W): the box around it, and
    the picture with that part in the colours around it."""
    height, width = pixels.shape[2:]
    latents = encode(vae, filled(pixels, touched(mask, height, width)))
    free = touched(mask, *latents.shape[2:])[0, 0]
    rows, columns = (free.any(side).nonzero()[:, 0] for side in (1, 0))
    if not len(rows):
        return Underlay(latents, Region(0.5, 0.5, 1.0, 1.0))
    (top, bottom), (left, right) = (
        (int(found[0]) / size, (int(found[-1]) + 1) / size)
        for found, size in zip((rows, columns), free.shape, strict=True)
    )
    return Underlay(latents, Region((left + right) / 2, (top + bottom) / 2, right - left, bottom - top))
