"""The pictures that are measured: real ones of the set, and what is kept of any."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sfumato.data.protocol import Dataset
from sfumato.images.tensors import compose
from sfumato.pipeline.clip_scorer import ClipScorer
from sfumato.seeding import stream

BATCH = 32
THUMBNAIL = 32
WHITE = (255, 255, 255)

Watch = Callable[[str, int, int], None]
"""Is told what is being done, how much of it is done, and of how much."""


@dataclass(frozen=True, eq=False)
class Looks:
    """What is kept of N pictures, so that thousands fit in memory.

    `numbers` (N,) are those of the set; of a drawn picture, that of the one whose prompt was drawn. `vectors` (N, E)
    are the judge's, of unit length; `thumbnails` (N, 3 * 32 * 32) are in [-1, 1].
    """

    numbers: np.ndarray
    vectors: Tensor
    thumbnails: Tensor

    def __len__(self) -> int:
        return len(self.numbers)

    def at(self, rows: np.ndarray) -> Looks:
        """Some of them, by place or by mask."""
        places = torch.from_numpy(rows)
        return Looks(self.numbers[rows], self.vectors[places], self.thumbnails[places])

    def of(self, numbers: np.ndarray) -> Looks:
        """Those with these numbers, in this order."""
        place = {int(number): k for k, number in enumerate(self.numbers)}
        return self.at(np.array([place[int(number)] for number in numbers], np.int64))


@torch.no_grad()
def look(judge: ClipScorer, numbers: np.ndarray, batches: Iterable[Tensor]) -> Looks:
    """Look at batches (B, 3, S, S) in [-1, 1] that have these numbers in all."""
    vectors, thumbnails = [torch.empty(0, judge.width)], [torch.empty(0, 3 * THUMBNAIL**2)]
    for x in batches:
        vectors.append(judge.encode_image(x).cpu())
        thumbnails.append(F.adaptive_avg_pool2d(x.cpu(), THUMBNAIL).flatten(1))
    return Looks(numbers, torch.cat(vectors), torch.cat(thumbnails))


def on_white(data: Dataset, numbers: np.ndarray) -> Iterator[Tensor]:
    """Batches of pictures on white, (B, 3, S, S) in [-1, 1]."""
    for start in range(0, len(numbers), BATCH):
        yield compose(data.pictures(numbers[start : start + BATCH]), WHITE)


def on_colours(data: Dataset, numbers: np.ndarray) -> Iterator[Tensor]:
    """The same on the middles of the set's plain colours, which take turns."""
    middles = np.array(data.grounds, np.float64).mean(1)
    for start in range(0, len(numbers), BATCH):
        rows = numbers[start : start + BATCH]
        turn = (start + np.arange(len(rows))) % len(middles)
        yield compose(data.pictures(rows), torch.from_numpy(middles[turn]))


def watched(batches: Iterable[Tensor], what: str, total: int, watch: Watch) -> Iterator[Tensor]:
    """The same batches; their rows are counted when they are used up."""
    done = 0
    for batch in batches:
        yield batch
        done += len(batch)
        watch(what, done, total)


def in_groups(data: Dataset, split: str, groups: tuple[str, ...]) -> np.ndarray:
    """Numbers of the split's pictures in these groups, int64, ascending."""
    return np.array([i for i in data.splits[split] if data.group(int(i)) in groups], np.int64)


def choose(data: Dataset, numbers: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Up to n of these pictures; no subject comes again before every subject has come.

    The choice of a smaller n is the beginning of that of a larger one.
    """
    order = stream(seed, "prompts", 0).permutation(numbers)
    earlier: Counter[int] = Counter()
    turn = np.empty(len(order), np.int64)
    for k, i in enumerate(order):
        subject = data.subject(int(i))
        turn[k] = earlier[subject]
        earlier[subject] += 1
    return order[np.argsort(turn, kind="stable")[:n]]


def spread(numbers: np.ndarray, n: int) -> np.ndarray:
    """Up to n of them at even distances."""
    return numbers[np.linspace(0, len(numbers) - 1, min(n, len(numbers))).astype(int)]
