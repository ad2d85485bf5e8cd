"""How near pictures come to the nearest one that training saw: whether a model remembers instead of drawing.

Real pictures that were held out show how alike the set is by nature, copies how near a remembered picture lies: they
are training pictures through the model's own autoencoder, which no drawn picture can avoid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.data.dataset import EmojiData
from sfumato.evaluate.pictures import Looks

COPY_QUANTILE = 0.95


@dataclass(frozen=True)
class Distance:
    """To the nearest training picture of the same style: median, and share that is as near as a copy.

    `pixels` is the RMSE of thumbnails, black and white being 1 apart; `judge` is one minus the cosine.
    """

    pictures: int
    pixels: float
    pixels_near: float
    judge: float
    judge_near: float


@dataclass(frozen=True)
class Originality:
    """A distance of at most a threshold counts as near: where COPY_QUANTILE of the copies lie."""

    distances: dict[str, Distance]
    pixels_threshold: float
    judge_threshold: float


def nearest(queries: Tensor, references: Tensor) -> Tensor:
    """Euclidean distance (M,) of each of (M, D) to the nearest of (T, D)."""
    # The usual shortcut over inner products would call equal pictures different by about 1e-3.
    parts = [torch.cdist(part, references, compute_mode="donot_use_mm_for_euclid_dist") for part in queries.split(64)]
    return torch.cat(parts).amin(1)


def to_known(data: EmojiData, looks: Looks, known: Looks) -> tuple[Tensor, Tensor]:
    """Distances (N,) by pixels and by the judge, as in `Distance`; infinite where no known picture has the style."""
    pixels, judge = (torch.full((len(looks),), torch.inf) for _ in range(2))
    style, known_style = ([data.style(int(i)) for i in some.numbers] for some in (looks, known))
    for name in sorted(set(style) & set(known_style)):
        rows = torch.tensor([s == name for s in style])
        others = torch.tensor([s == name for s in known_style])
        rmse = nearest(looks.thumbnails[rows], known.thumbnails[others]) / known.thumbnails.shape[1] ** 0.5
        pixels[rows] = rmse / 2  # from -1 to 1
        judge[rows] = nearest(looks.vectors[rows], known.vectors[others]).square() / 2
    return pixels, judge


def measure_originality(data: EmojiData, known: Looks, copies: Looks, others: Mapping[str, Looks]) -> Originality:
    """Of the copies, and of all others that there are, to the known pictures."""
    found = {name: to_known(data, looks, known) for name, looks in ({**others, "copies": copies}).items() if len(looks)}
    pixels_threshold, judge_threshold = (
        of.quantile(COPY_QUANTILE, interpolation="higher").item() for of in found["copies"]
    )
    rows = {
        name: Distance(
            pictures=len(pixels),
            pixels=pixels.median().item(),
            pixels_near=(pixels <= pixels_threshold).float().mean().item(),
            judge=judge.median().item(),
            judge_near=(judge <= judge_threshold).float().mean().item(),
        )
        for name, (pixels, judge) in found.items()
    }
    return Originality(rows, pixels_threshold, judge_threshold)
