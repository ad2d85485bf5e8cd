"""How much pictures of one prompt differ from seed to seed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from torch import Tensor

from sfumato.data.emoji.dataset import EmojiData
from sfumato.evaluate.emoji.styles import artworks, distance, styles_of
from sfumato.evaluate.intervals import Estimate
from sfumato.evaluate.pictures import Looks


@dataclass(frozen=True)
class Variety:
    """Of pictures of the same prompt, which names no style: their distance (RMSE at 32 x 32 pixels, black and white 1
    apart), that of real pictures of one concept in two styles, and how many styles of how many pictures differ."""

    between_seeds: Estimate | None
    between_styles: Estimate | None
    styles: Estimate | None
    seeds: int


def measure_variety(data: EmojiData, drawn: Looks, known: Looks, seeds: int) -> Variety:
    """Of drawn pictures whose numbers are those of pictures of their concepts."""
    styles = styles_of(data, drawn, known)
    rows: dict[int, list[int]] = defaultdict(list)
    for k, number in enumerate(drawn.numbers.tolist()):
        rows[data.concept_index(number)].append(k)
    real = artworks(data, known)
    return Variety(
        Estimate.mean_of(_between([drawn.thumbnails[k] for k in group] for group in rows.values())),
        Estimate.mean_of(_between(real[concept].values() for concept in rows)),
        Estimate.mean_of(len({styles[k] for k in group}) for group in rows.values()),
        seeds,
    )


def _between(groups: Iterable[Iterable[Tensor]]) -> list[float]:
    """The distances within each group."""
    return [distance(a, b) for group in groups for a, b in combinations(group, 2)]
