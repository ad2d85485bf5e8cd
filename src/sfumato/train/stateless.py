"""Chance as a pure function of (seed, purpose, step), so that an interrupted run goes on exactly.

Philox is counter-based (Salmon et al. 2011): the key names seed and purpose, the step is the counter's high word, and
nothing has to be saved to go on.
"""

from __future__ import annotations

import zlib
from functools import lru_cache

import numpy as np


def stream(seed: int, purpose: str, step: int) -> np.random.Generator:
    """An independent generator for this seed, purpose and step."""
    key = np.array([seed, zlib.crc32(purpose.encode())], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, step]))


@lru_cache(maxsize=4)
def _permutation(seed: int, purpose: str, epoch: int, n: int) -> np.ndarray:
    return stream(seed, purpose, epoch).permutation(n)


def shuffled(seed: int, purpose: str, start: int, count: int, n: int) -> np.ndarray:
    """Entries start .. start + count of an endless row of shuffled epochs of 0 .. n-1: int64 (count,)."""
    places = np.arange(start, start + count)
    epochs = places // n
    return np.concatenate([_permutation(seed, purpose, int(e), n)[places[epochs == e] % n] for e in np.unique(epochs)])
