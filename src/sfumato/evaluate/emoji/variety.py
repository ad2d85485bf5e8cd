"""How much pictures of one prompt differ from seed to seed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from sfumato.evaluate.emoji.classifier import Classifier
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


def measure_variety(classifier: Classifier, drawn: Looks, known: Looks, seeds: int) -> Variety:
    """Of drawn pictures whose numbers are those of pictures of their concepts."""
    data = classifier.data
    concepts = torch.tensor([data.concept_index(int(i)) for i in drawn.numbers])
    styles = classifier.styles(drawn.vectors, concepts)
    apart, several = [], []
    for concept in concepts.unique().tolist():
        rows = (concepts == concept).nonzero()[:, 0]
        apart += _distances(drawn.thumbnails[rows])
        several.append(len(styles[rows].unique()))
    wanted = set(concepts.tolist())
    real: dict[int, list[Tensor]] = defaultdict(list)
    for i, thumbnail in zip(known.numbers.tolist(), known.thumbnails, strict=True):
        if data.concept_index(i) in wanted:
            real[data.concept_index(i)].append(thumbnail)
    between = [distance for some in real.values() for distance in _distances(torch.stack(some))]
    return Variety(Estimate.mean_of(apart), Estimate.mean_of(between), Estimate.mean_of(several), seeds)


def _distances(thumbnails: Tensor | Sequence[Tensor]) -> list[float]:
    return [(a - b).square().mean().sqrt().item() / 2 for a, b in combinations(thumbnails, 2)]
