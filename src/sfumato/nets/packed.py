"""Whole numbers from -7 to 7, two in one float: tables that would be too large with one in each.

A float of eight bits (float8_e4m3fn: a sign, four bits of exponent, three of mantissa) stands for two digits from 0 to
14, side by side in these eight bits. The two patterns that are no number have a second digit of 15, so all that is
packed is finite. Every wider precision holds such floats exactly. So tables of them are stored, converted and loaded
like all other weights. Digits mean 0, -1, 1, -2, 2 ... in this order.
"""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST = 7


def _number(digit: int) -> int:
    return -(digit + 1) // 2 if digit % 2 else digit // 2


_PAIRS = torch.tensor([(_number(bits >> 4), _number(bits & 15)) for bits in range(256)], dtype=torch.float32)


def packed(values: Tensor) -> Tensor:
    """Returns values (..., 2n), rounded to whole numbers from -7 to 7, as floats (..., n); zeros become zeros."""
    whole = values.float().round().clamp(-LARGEST, LARGEST).to(torch.int16)
    digits = torch.where(whole < 0, -2 * whole - 1, 2 * whole)
    both = (digits[..., 0::2] * 16 + digits[..., 1::2]).to(torch.uint8)
    return both.view(torch.float8_e4m3fn).float()


def unpacked(table: Tensor) -> Tensor:
    """Returns the numbers (..., 2n), float32, that floats (..., n) of any precision stand for."""
    both = table.to(torch.float8_e4m3fn).view(torch.uint8)
    return _PAIRS.to(table.device)[both.int()].flatten(-2)
