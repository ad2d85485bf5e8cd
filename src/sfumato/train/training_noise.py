"""Noise that is not white: what is added to latents in training so that a network also learns large, even areas."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

MOST_OCTAVES = 10


def white(rng: np.random.Generator, shape: tuple[int, ...]) -> Tensor:
    """Returns float32 numbers of the normal distribution."""
    return torch.from_numpy(rng.standard_normal(shape, np.float32))


def with_offset(noise: Tensor, rng: np.random.Generator, strength: float) -> Tensor:
    """Returns noise (B, C, h, w) + strength n, with one normal number n for every row and channel.

    So the mean of a picture is noised more than white noise does, and the network learns dark and bright ones
    (Guttenberg 2023, "Diffusion with offset noise", with strength 0.1).
    """
    return noise + strength * white(rng, (*noise.shape[:2], 1, 1))


def pyramid(noise: Tensor, rng: np.random.Generator, discount: float) -> Tensor:
    """Returns noise (B, C, h, w) at many sizes: plus discount^i times noise about 3^i times as coarse, i = 1, 2 ...

    The sum is divided by its deviation. Coarser noise is drawn at h / r and w / r, with r = (2 + 2 u)^i and another
    uniform u each time, and resized bilinearly; it ends where a side is 1 (Whitaker 2023, "Multi-resolution noise for
    diffusion model training", with discount 0.9).
    """
    height, width = noise.shape[2:]
    total = noise
    for octave in range(1, MOST_OCTAVES + 1):
        ratio = (2 + 2 * rng.random()) ** octave
        size = max(1, int(height / ratio)), max(1, int(width / ratio))
        coarse = white(rng, (*noise.shape[:2], *size))
        total = total + discount**octave * F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)
        if 1 in size:
            break
    return total / total.std()
