"""Pictures that are drawn on, for models with a prior."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from sfumato.images.mask import filled, touched
from sfumato.images.tensors import to_pixels
from sfumato.nets.layout import Region
from sfumato.nets.prior import Underlay
from sfumato.nets.vae import VAE
from sfumato.pipeline.latents import encode

__all__ = ["Underlay", "hole_of", "near_part", "whole_of", "with_ground"]

BINS = 16  # of a channel's values, among which the ground's colour is the commonest
NEAR = 0.2  # of the range from -1 to 1: how far a ground may be from its commonest colour
LEAST = 0.2  # of the picture that a ground covers
FAR = -0.5  # depth, from -1 to 1, up to which a place is background


def hole_of(vae: VAE, pixels: Tensor, mask: Tensor, goes_on: bool = False) -> Underlay:
    """Returns the part of a picture that is to be drawn anew: the box around it, and the picture with ground there.

    `pixels` (1, 3, H, W) are in [-1, 1], and `mask` (1, 1, H, W) is above 0 in that part. `goes_on` as in `Underlay`.
    """
    latents = encode(vae, with_ground(pixels, touched(mask, *pixels.shape[2:])))
    free = touched(mask, *latents.shape[2:])[0, 0]
    rows, columns = (free.any(side).nonzero()[:, 0] for side in (1, 0))
    if not len(rows):
        return Underlay(latents, Region(0.5, 0.5, 1.0, 1.0), goes_on=goes_on)
    (top, bottom), (left, right) = (
        (int(found[0]) / size, (int(found[-1]) + 1) / size)
        for found, size in zip((rows, columns), free.shape, strict=True)
    )
    region = Region((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
    return Underlay(latents, region, goes_on=goes_on)


def filled_part(picture: Image.Image) -> Region:
    """Returns the box of what differs from the colour at the edges of a picture, all of it where nothing does."""
    pixels = to_pixels(picture.convert("RGB"))[0]
    edges = torch.cat([pixels[:, 0], pixels[:, -1], pixels[:, :, 0], pixels[:, :, -1]], 1)
    return _box((pixels - edges.median(1).values[:, None, None]).abs().amax(0) > NEAR)


def near_part(depth: Tensor) -> Region:
    """Returns the box of what is not far away in a depth map (1, 1, h, w) in [-1, 1], all of it where nothing is."""
    return _box(depth[0, 0] > FAR)


def _box(places: Tensor) -> Region:
    """Returns the box of places (H, W), bool, all of the picture where there are none."""
    bounds = []
    for other, size in ((0, places.shape[1]), (1, places.shape[0])):
        found = places.any(other).nonzero()[:, 0]
        bounds.append((int(found[0]) / size, (int(found[-1]) + 1) / size) if len(found) else (0.0, 1.0))
    (left, right), (top, bottom) = bounds
    return Region((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)


def with_ground(pixels: Tensor, hole: Tensor) -> Tensor:
    """Returns a picture (1, 3, H, W) in [-1, 1] with its ground in the hole, bool (1, 1, H, W).

    The ground is the commonest colour outside the hole and what resembles it, so that a thing at the hole's edge does
    not colour it. A picture without such a ground goes on into the hole with all the colours around it.
    """
    known = pixels[0].flatten(1)[:, ~hole.flatten()].T  # (N, 3)
    if not len(known):
        return filled(pixels, hole)
    bins = ((known + 1) / 2 * BINS).long().clamp(0, BINS - 1)
    _, members, counts = bins.unique(dim=0, return_inverse=True, return_counts=True)
    colour = known[members == counts.argmax()].mean(0)
    away = ((pixels - colour[:, None, None]).abs() > NEAR).any(1, keepdim=True)
    ground = ~away & ~hole
    if ground.sum() < LEAST * (~hole).sum():
        return filled(pixels, hole)
    return filled(pixels, ~ground).where(hole, pixels)


def whole_of(latents: Tensor, strength: float) -> Underlay:
    """Returns a whole picture's latents (1, C, h, w) as what is drawn on, of which `strength` (0 to 1) changes."""
    return Underlay(latents, strength=strength)
