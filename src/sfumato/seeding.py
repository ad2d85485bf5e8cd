"""Random numbers as a pure function of (seed, purpose, step), so that an interrupted run continues exactly.

Philox is a counter-based generator (Salmon et al. 2011): seed and purpose are its key, the step is the high word of its
counter. There is no state to save.
"""

from __future__ import annotations

import zlib
from functools import lru_cache

import numpy as np


def stream(seed: int, purpose: str, step: int) -> np.random.Generator:
    """Returns the generator that belongs to this seed (0 to 2**64 - 1), purpose and step; all are independent.

    >>> stream(0, "noise", 7).random() == stream(0, "noise", 7).random()
    True
    """
    key = np.array([seed, zlib.crc32(purpose.encode())], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, step]))


@lru_cache(maxsize=4)
def _permutation(seed: int, purpose: str, epoch: int, n: int) -> np.ndarray:
    return stream(seed, purpose, epoch).permutation(n)


def shuffled(seed: int, purpose: str, start: int, count: int, n: int) -> np.ndarray:
    """Returns entries start .. start + count - 1 of an endless sequence of epochs: int64 (count,).

    Each epoch is a shuffle of 0 .. n - 1. The sequence does not depend on how it is cut into calls.
    """
    places = np.arange(start, start + count)
    epochs = places // n
    return np.concatenate([_permutation(seed, purpose, int(e), n)[places[epochs == e] % n] for e in np.unique(epochs)])
