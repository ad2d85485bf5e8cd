"""In which style a picture is drawn, by the artwork of its concept that it comes nearest to.

The judge sees too few pixels to tell styles apart that differ in shading only.
"""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor

from sfumato.data.emoji.dataset import EmojiData
from sfumato.evaluate.pictures import Looks


def artworks(data: EmojiData, real: Looks) -> dict[int, dict[str, Tensor]]:
    """The thumbnails of real pictures by concept and style."""
    found: dict[int, dict[str, Tensor]] = defaultdict(dict)
    for number, thumbnail in zip(real.numbers.tolist(), real.thumbnails, strict=True):
        found[data.concept_index(number)][data.style(number)] = thumbnail
    return found


def styles_of(data: EmojiData, looks: Looks, real: Looks) -> list[str]:
    """The style of each picture: that of the nearest by pixels of the real pictures of its concept, of which there must
    be one."""
    known = artworks(data, real)
    found = []
    for number, thumbnail in zip(looks.numbers.tolist(), looks.thumbnails, strict=True):
        choice = known[data.concept_index(number)]
        found.append(min(choice, key=lambda style: distance(choice[style], thumbnail)))
    return found


def distance(a: Tensor, b: Tensor) -> float:
    """RMSE of two thumbnails in [-1, 1], where black and white are 1 apart."""
    return torch.dist(a, b).item() / a.numel() ** 0.5 / 2
