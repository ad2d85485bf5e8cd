"""Quantised latents as bits: small whole numbers, each guessed from those before it."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from sfumato.codec.arithmetic import Bit, Code, Decoder, Encoder

_UNARY = 14  # larger magnitudes are written by their binary length
_LEVELS = (0, 1, 2, 4, 7, 11, 16)


def pack(symbols: np.ndarray) -> bytes:
    """Whole numbers (C, h, w) as bytes."""
    encoder = Encoder()
    _walk(symbols.astype(np.int64), encoder.code)
    return encoder.finish()


def unpack(data: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """What `pack` was given, int64; any bytes give some numbers of this shape."""
    symbols = np.zeros(shape, np.int64)
    _walk(symbols, Decoder(data).code)
    return symbols


def _walk(symbols: np.ndarray, code: Code) -> None:
    """Pass every number through `code` and put what it says in its place.

    What is known of a number is how large its neighbours above, to the left and in the two channels before are, and
    which channel it is of.
    """
    channels, height, width = symbols.shape
    models: dict[tuple[int, ...], Bit] = defaultdict(Bit)
    rows = symbols.tolist()
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                near = 0
                if y:
                    near += 2 * abs(rows[c][y - 1][x])
                if x:
                    near += 2 * abs(rows[c][y][x - 1])
                if y and x:
                    near += abs(rows[c][y - 1][x - 1])
                if c:
                    near += abs(rows[c - 1][y][x])
                level = sum(near > limit for limit in _LEVELS)
                rows[c][y][x] = _number(rows[c][y][x], models, (c, level), code)
    symbols[:] = rows


def _number(value: int, models: dict[tuple[int, ...], Bit], where: tuple[int, int], code: Code) -> int:
    c, level = where
    size = abs(value)
    found = 0
    while found < _UNARY and code(models[1, level, found], size > found):
        found += 1
    if found == _UNARY:
        found += _golomb(size - _UNARY, models, code)
    if not found:
        return 0
    return -found if code(models[2, c], value < 0) else found


def _golomb(value: int, models: dict[tuple[int, ...], Bit], code: Code) -> int:
    """Elias's gamma code of value + 1 (Elias 1975), its bits as models that adapt."""
    length, wanted = 0, (value + 1).bit_length() - 1
    while length < 31 and code(models[3, length], length < wanted):
        length += 1
    found = 1
    for place in reversed(range(length)):
        found = found << 1 | code(models[4, place], value + 1 >> place & 1)
    return found - 1
