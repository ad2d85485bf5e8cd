"""R-precision (Xu et al. 2018, AttnGAN, section 4): how often a picture's own caption is ranked before all others.

The headline takes captions in the language of the prompt: that is what was asked for, and where the judge is weak in a
language it is as weak on real pictures, so the ratio to these divides it out. The same with English captions is one
yardstick for all languages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from sfumato.data.protocol import Dataset
from sfumato.evaluate.judge import Judge
from sfumato.evaluate.pictures import Looks, Watch
from sfumato.seeding import stream

CANDIDATES = 100


@dataclass(frozen=True)
class Precision:
    """Shares of first places, and drawn / real; None where there is nothing to count or to divide by.

    `real` pictures are those whose prompts were drawn, `unseen` ones by split are others that no training saw.
    `shuffled` is `drawn` with every list of captions given to the other pictures. `spread` is the standard deviation of
    `drawn` between seeds, None of a single one.
    """

    drawn: float | None
    real: float | None
    ratio: float | None
    drawn_english: float | None
    real_english: float | None
    ratio_english: float | None
    shuffled: float | None
    spread: float | None
    unseen: dict[str, float | None]


def first_places(pictures: Tensor, captions: Tensor) -> Tensor:
    """Where the first caption of a list fits best of its list: bool (lists, pictures); a tie is a miss.

    Unit vectors of pictures (N, E) and of M lists of captions (M, K, E). With a list for every picture the diagonal is
    what R-precision counts, and the rest says how often chance alone wins.
    """
    scores = [row @ pictures.T for row in captions]
    return torch.stack([(score[0] > score[1:]).all(0) for score in scores])


def share(hits: Tensor) -> float | None:
    """Share of true entries, None of nothing."""
    return hits.float().mean().item() if hits.numel() else None


def candidates(data: Dataset, i: int, seed: int) -> list[int]:
    """CANDIDATES subjects of the set (all, where there are fewer), that of picture i first.

    They depend on nothing but the set, i and the seed.
    """
    own = data.subject(i)
    others = np.delete(np.arange(data.subjects), own)
    rng = stream(seed, "candidates", i)
    return [own, *rng.choice(others, min(CANDIDATES - 1, len(others)), replace=False).tolist()]


def caption_lists(data: Dataset, judge: Judge, seed: int, numbers: np.ndarray, language: str) -> Tensor:
    """Vectors (N, K, E) of the captions that pictures of the set choose from, each one's own first.

    All name the picture's own group, so that only what is shown can tell them apart.
    """
    texts = [[data.prompt(k, data.group(int(i)), language) for k in candidates(data, int(i), seed)] for i in numbers]
    return judge.texts([text for row in texts for text in row]).unflatten(0, (len(texts), -1))


def measure_precision(
    data: Dataset,
    judge: Judge,
    drawn: Mapping[str, Looks],
    real: Looks,
    unseen: Mapping[str, Looks],
    seed: int,
    watch: Watch,
) -> dict[str, Precision]:
    """By language. `drawn[language]` are pictures of the prompts that `real` pictures have, in their order, as often as
    there are seeds."""
    lists = partial(caption_lists, data, judge, seed)
    english = lists(real.numbers, "en")
    real_english = share(first_places(real.vectors, english).diagonal())
    subjects = torch.tensor([data.subject(int(i)) for i in real.numbers])
    found = {}
    for done, (language, looks) in enumerate(drawn.items(), 1):
        own = lists(real.numbers, language)
        places = first_places(looks.vectors, own)
        turns = _turns(places)
        hits, on_real = share(turns), share(first_places(real.vectors, own).diagonal())
        hits_english = share(_turns(first_places(looks.vectors, english)))
        found[language] = Precision(
            drawn=hits,
            real=on_real,
            ratio=_ratio(hits, on_real),
            drawn_english=hits_english,
            real_english=real_english,
            ratio_english=_ratio(hits_english, real_english),
            shuffled=share(places[subjects[:, None] != subjects.repeat(len(turns))]),
            spread=turns.float().mean(1).std().item() if len(turns) > 1 else None,
            unseen={
                split: share(first_places(others.vectors, lists(others.numbers, language)).diagonal())
                for split, others in unseen.items()
                if len(others)
            },
        )
        watch("captions", done, len(drawn))
    return found


def _turns(places: Tensor) -> Tensor:
    """Of lists and the pictures of several seeds (N, T * N), what each picture makes of its own list: (T, N)."""
    return torch.stack([turn.diagonal() for turn in places.split(len(places), 1)])


def _ratio(drawn: float | None, real: float | None) -> float | None:
    return drawn / real if drawn is not None and real else None
