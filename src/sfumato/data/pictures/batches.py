"""Which samples a step sees: full batches of one bucket each, a pure function of seed and step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from sfumato.seeding import shuffled, stream


class BucketBatches:
    """Batches of buckets with `counts` samples an epoch.

    The samples of a bucket are an endless row of shuffled epochs. After E epochs of the set, a bucket of n samples has
    given floor(E n / count) full batches. So no batch is cut short, and what an epoch leaves over opens the next one.
    """

    def __init__(self, counts: Sequence[int], seed: int) -> None:
        self._counts, self._seed = np.array(counts, np.int64), seed

    def at(self, step: int, count: int) -> tuple[int, np.ndarray]:
        """Returns the bucket of a step, and the places (count,) of its samples in the bucket."""
        epoch = self._epoch(step, count)
        before = self._given(epoch, count)
        order = _order(self._seed, epoch, tuple((self._given(epoch + 1, count) - before).tolist()))
        bucket, number = order[step - int(before.sum())]
        start = (int(before[bucket]) + number) * count
        return bucket, shuffled(self._seed, f"bucket {bucket}", start, count, int(self._counts[bucket]))

    def _given(self, epochs: int, count: int) -> np.ndarray:
        """How many batches each bucket has given after so many epochs."""
        return epochs * self._counts // count

    def _epoch(self, step: int, count: int) -> int:
        """The epoch of a step: the greatest number of epochs that have given at most `step` batches."""
        low, high = 0, (step + 1 + len(self._counts)) * count // int(self._counts.sum()) + 1
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._given(middle, count).sum() <= step else (low, middle)
        return low


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, counts: tuple[int, ...]) -> list[tuple[int, int]]:
    """The batches of an epoch in a shuffled order: pairs of a bucket and the number of its batch in this epoch."""
    batches = [(bucket, number) for bucket, count in enumerate(counts) for number in range(count)]
    return [batches[place] for place in stream(seed, "batches", epoch).permutation(len(batches))]
