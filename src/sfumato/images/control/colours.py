"""Hints that keep colours and lose what is where, or how it is drawn."""

from __future__ import annotations

import numpy as np
from PIL import Image

CELL = 64  # pixels of a side of a field of one colour
FINE = 2  # how many times smaller a picture becomes that loses its finest detail
WAVE = 4  # places along a side at which displacements are drawn by chance


def colour_grid(image: Image.Image) -> Image.Image:
    """Fields of 64x64 pixels in their mean colours."""
    small = image.resize(_smaller(image.size, CELL), Image.Resampling.BOX)
    return small.resize(image.size, Image.Resampling.NEAREST)


def softened(image: Image.Image) -> Image.Image:
    """The picture without its finest detail, which the network is to draw anew."""
    return image.resize(_smaller(image.size, FINE), Image.Resampling.BOX).resize(image.size, Image.Resampling.BICUBIC)


def _smaller(size: tuple[int, int], times: int) -> tuple[int, int]:
    return max(1, round(size[0] / times)), max(1, round(size[1] / times))


def shuffled(image: Image.Image, seed: int = 0) -> Image.Image:
    """The picture with its places moved about smoothly: its colours and its stuff without its forms."""
    rng = np.random.default_rng(seed)
    width, height = image.size
    places = []
    for side in (width, height):
        field = Image.fromarray(rng.random((WAVE + 1, WAVE + 1), dtype=np.float32))
        smooth = np.asarray(field.resize((width, height), Image.Resampling.BICUBIC))
        spread = (smooth - smooth.min()) / max(float(smooth.max() - smooth.min()), 1e-6)
        places.append((spread * (side - 1)).round().astype(np.int64))
    return Image.fromarray(np.asarray(image)[places[1], places[0]])
