"""R-precision (Xu et al. 2018, AttnGAN, section 4): how often a picture's own caption is ranked before 99 others.

The other captions are those of other pictures in the same language. Instead of drawing 99 of them once, the exact
expectation over all draws is taken, so that no luck of the draw is in the figure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sfumato.data.protocol import Dataset
from sfumato.evaluate.intervals import Estimate
from sfumato.evaluate.pictures import Looks, Watch
from sfumato.pipeline.clip_scorer import ClipScorer, first_of


@dataclass(frozen=True)
class Precision:
    """Shares of pictures whose own caption is first of 100. `real` pictures are those whose prompts were drawn,
    `held_out` ones the judge never saw. None where there is none."""

    drawn: Estimate | None
    real: Estimate | None
    held_out: Estimate | None


def measure_precision(
    data: Dataset, judge: ClipScorer, drawn: Mapping[str, Looks], real: Looks, held_out: Looks, watch: Watch
) -> dict[str, Precision]:
    """By language. `drawn[language]` are pictures of the prompts of `real` pictures."""
    pool = np.union1d(real.numbers, held_out.numbers)
    found = {}
    for done, (language, looks) in enumerate(drawn.items(), 1):
        captions = captions_of(data, judge, pool, language)
        columns = (Estimate.share(chances(data, some, pool, captions).tolist()) for some in (looks, real, held_out))
        found[language] = Precision(*columns)
        watch("captions", done, len(drawn))
    return found


def captions_of(data: Dataset, judge: ClipScorer, pool: np.ndarray, language: str) -> Tensor:
    """Vectors (K, E) of the plainest captions of pictures with these numbers."""
    return judge.encode_text([data.prompt(data.subject(int(i)), data.group(int(i)), language) for i in pool])


def chances(data: Dataset, looks: Looks, pool: np.ndarray, captions: Tensor) -> Tensor:
    """The chance of each of N pictures, whose numbers are in the ascending `pool`, to rank its own caption first: (N,).

    Captions of other pictures of the same subject do not take part.
    """
    subjects = torch.tensor([data.subject(int(i)) for i in pool])
    places = torch.from_numpy(np.searchsorted(pool, looks.numbers))
    own = torch.zeros(len(looks), len(pool), dtype=torch.bool)
    own[torch.arange(len(looks)), places] = True
    alike = (subjects[places][:, None] == subjects) & ~own
    return first_of((looks.vectors @ captions.T).masked_fill(alike, -2.0), own)
