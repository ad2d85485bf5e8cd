"""Whole numbers of few levels, several in one float: tables that would be too large with one in each.

A float of eight bits (float8_e4m3fn) has 254 finite patterns. They stand for as many digits as fit: two of 15 levels
(-7 to 7), three of 5 (-2 to 2), five of 3 (-1 to 1). Every wider precision holds such floats exactly. So tables of them
are stored, converted and loaded like all other weights. Digits mean 0, -1, 1, -2, 2 ... in this order, so that zeros
are stored as zeros.
"""

from __future__ import annotations

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

FINITE = 254  # patterns of eight bits that are numbers
NAN = 127  # the first pattern that is none; the other one is the last of all


def per_float(levels: int) -> int:
    """Returns how many numbers of so many levels a float stands for."""
    return int(math.log(FINITE) / math.log(levels))


def packed(values: Tensor, levels: int) -> Tensor:
    """Returns values (..., k n), rounded to whole numbers, as floats (..., n), where k = `per_float(levels)`.

    `levels` is odd; the numbers go from -(levels - 1) / 2 to (levels - 1) / 2.
    """
    largest, k = levels // 2, per_float(levels)
    whole = values.float().round().clamp(-largest, largest).to(torch.int64)
    digits = torch.where(whole < 0, -2 * whole - 1, 2 * whole).unflatten(-1, (-1, k))
    number = (digits * torch.tensor([levels**place for place in range(k)], device=whole.device)).sum(-1)
    pattern = (number + (number >= NAN)).to(torch.uint8)
    return pattern.view(torch.float8_e4m3fn).float()


def unpacked(table: Tensor, levels: int) -> Tensor:
    """Returns the numbers (..., k n), float32, that floats (..., n) of any precision stand for."""
    pattern = table.to(torch.float8_e4m3fn).view(torch.uint8)
    # An embedding's look-up is three times as fast here as an index.
    return F.embedding(pattern.int(), _numbers(levels).to(table.device)).flatten(-2)


@cache
def _numbers(levels: int) -> Tensor:
    """The numbers (256, k) of every pattern."""
    rows = []
    for pattern in range(256):
        number = pattern - (pattern > NAN)
        digits = [number // levels**place % levels for place in range(per_float(levels))]
        rows.append([-(digit + 1) // 2 if digit % 2 else digit // 2 for digit in digits])
    return torch.tensor(rows, dtype=torch.float32, device="cpu")  # not where a network is being built
