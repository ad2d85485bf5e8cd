"""How near pictures come to the nearest one that training saw: whether a model remembers instead of drawing.

Real pictures that were held out show how alike the set is by nature, copies how near a remembered picture lies: they
are training pictures through the model's own autoencoder, which no drawn picture can avoid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sfumato.data.protocol import Dataset
from sfumato.evaluate.pictures import Looks

COPY_QUANTILE = 0.95


@dataclass(frozen=True)
class Distance:
    """To the nearest training picture of the same group: median, and share that is as near as a copy.

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


class Nearest(NamedTuple):
    """By pixels and by the judge (N,), as in `Distance`, infinite where the group has no known picture; and the number
    in the set (N,), int64, of the picture that is nearest by pixels."""

    pixels: Tensor
    judge: Tensor
    numbers: Tensor


def nearest(queries: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:
    """Euclidean distance (M,) of each of (M, D) to the nearest of (T, D), and the place of that one (M,)."""
    # The usual shortcut over inner products would call equal pictures different by about 1e-3.
    parts = [torch.cdist(part, references, compute_mode="donot_use_mm_for_euclid_dist") for part in queries.split(64)]
    distances, places = torch.cat(parts).min(1)
    return distances, places


def to_known(data: Dataset, looks: Looks, known: Looks) -> Nearest:
    """How near each of the looks comes to a known one of its group."""
    pixels, judge = (torch.full((len(looks),), torch.inf) for _ in range(2))
    numbers = torch.full((len(looks),), -1)
    groups, known_groups = ([data.group(int(i)) for i in some.numbers] for some in (looks, known))
    for name in sorted(set(groups) & set(known_groups)):
        rows = torch.tensor([group == name for group in groups])
        others = torch.tensor([group == name for group in known_groups])
        apart, places = nearest(looks.thumbnails[rows], known.thumbnails[others])
        pixels[rows] = apart / known.thumbnails.shape[1] ** 0.5 / 2  # from -1 to 1
        numbers[rows] = torch.from_numpy(known.numbers)[others][places]
        judge[rows] = nearest(looks.vectors[rows], known.vectors[others])[0].square() / 2
    return Nearest(pixels, judge, numbers)


def measure_originality(data: Dataset, known: Looks, copies: Looks, others: Mapping[str, Looks]) -> Originality:
    """Of the copies, and of all others that there are, to the known pictures."""
    found = {name: to_known(data, looks, known) for name, looks in ({**others, "copies": copies}).items() if len(looks)}
    pixels_threshold, judge_threshold = (
        of.quantile(COPY_QUANTILE, interpolation="higher").item() for of in found["copies"][:2]
    )
    rows = {
        name: Distance(
            pictures=len(pixels),
            pixels=pixels.median().item(),
            pixels_near=(pixels <= pixels_threshold).float().mean().item(),
            judge=judge.median().item(),
            judge_near=(judge <= judge_threshold).float().mean().item(),
        )
        for name, (pixels, judge, _) in found.items()
    }
    return Originality(rows, pixels_threshold, judge_threshold)
