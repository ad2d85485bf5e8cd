"""The normal numbers that torch draws on CUDA, made anywhere: noise of pictures that were drawn on a GPU.

Philox 4x32 with 10 rounds (Salmon et al. 2011) and the first half of a Box-Muller pair for each number, as cuRAND's
normal distribution has it. Equal to CUDA's but for the rounding of the logarithm and the sine; true for as many numbers
as a GPU draws at once, which latents of a picture are.
"""

from __future__ import annotations

import numpy as np

_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = 0x9E3779B9, 0xBB67AE85
_LOW, _WORD = np.uint64(0xFFFFFFFF), np.uint64(32)
_ROUNDS = 10


def philox(counter: np.ndarray, seed: int) -> np.ndarray:
    """Four random words of 32 bits for each counter: (4, N) uint64 holding 32 bits, to the same."""
    a, b, c, d = counter
    keys = [seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF]
    for _ in range(_ROUNDS):
        first, second = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        low, high = np.uint64(keys[0]), np.uint64(keys[1])
        a, b, c, d = second >> _WORD ^ b ^ low, second & _LOW, first >> _WORD ^ d ^ high, first & _LOW
        keys = [(key + step) & 0xFFFFFFFF for key, step in zip(keys, _WEYL, strict=True)]
    return np.stack([a, b, c, d])


def normal(seed: int, draw: int, count: int) -> np.ndarray:
    """The `count` numbers of a generator's call number `draw` (from 0), float32."""
    counter = np.zeros((4, count), np.uint64)
    counter[0], counter[2] = draw, np.arange(count, dtype=np.uint64)
    first, second, _, _ = philox(counter, seed)
    radius = np.sqrt(-2 * np.log((first + 0.5) * 2.0**-32))
    return (radius * np.sin((second + 0.5) * (2 * np.pi * 2.0**-32))).astype(np.float32)
