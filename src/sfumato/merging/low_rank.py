"""Matrices as products of two thin ones, the nearest of a rank (Eckart and Young 1936)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.errors import OptionError

USUAL_RANK = 64
TINY = 1e-6  # of the largest singular value: smaller ones are rounding


@dataclass(frozen=True)
class Limit:
    """How much of a difference is kept: at most `rank` directions, and as few as hold the share `energy` of it.

    The energy is the sum of the squares of a matrix; None is no limit.
    """

    rank: int | None = None
    energy: float | None = None

    def __post_init__(self) -> None:
        if self.rank is not None and not 1 <= self.rank <= 1 << 14:
            raise OptionError(f"`rank` is {self.rank}; give a whole number from 1 to {1 << 14}")
        if self.energy is not None and not 0 < self.energy <= 1:
            raise OptionError(f"`energy` is {self.energy}; give a share above 0 and up to 1")

    def __bool__(self) -> bool:
        return (self.rank, self.energy) != (None, None)

    def count(self, singular: Tensor) -> int:
        """How many of the singular values, the largest first, are kept; at least one."""
        count = int((singular > TINY * singular[0]).sum())
        if self.energy is not None:
            shares = singular.square().cumsum(0) / singular.square().sum()
            count = min(count, int((shares < self.energy - 1e-12).sum()) + 1)
        return max(1, count if self.rank is None else min(count, self.rank))


@dataclass(frozen=True)
class Factors:
    """up (out, r) times down (r, in), both of like size; `kept` of the whole `energy` (squares) is in the product."""

    up: Tensor
    down: Tensor
    kept: float
    energy: float


def factors_of(matrix: Tensor, limit: Limit) -> Factors | None:
    """The product nearest to a matrix (out, in) within a limit, in float64; None for a matrix of zeros.

    By the eigenvectors of the smaller of matrix matrix^T and matrix^T matrix: exact, and for wide layers many times as
    fast as a decomposition of the matrix itself.
    """
    wide = len(matrix) <= matrix.shape[1]
    flat = (matrix if wide else matrix.T).double()
    values, vectors = torch.linalg.eigh(flat @ flat.T)
    singular = values.flip(0).clamp(min=0).sqrt()
    if not singular[0] > 0:
        return None
    count = limit.count(singular)
    root = singular[:count].sqrt()
    left = vectors.flip(1)[:, :count]
    right = (left.T @ flat) / root[:, None]
    up, down = (left * root, right) if wide else (right.T, (left * root).T)
    squares = singular.square()
    return Factors(up, down, squares[:count].sum().item(), squares.sum().item())


def fewer(up: Tensor, down: Tensor, limit: Limit) -> Factors | None:
    """The product nearest to that of up (out, r) and down (r, in) within a limit, in float64; None for zeros.

    The large matrix is never made, where r is smaller than its sides.
    """
    if up.shape[1] >= min(len(up), down.shape[1]):
        return factors_of(up.double() @ down.double(), limit)
    left, upper = torch.linalg.qr(up.double())
    right, lower = torch.linalg.qr(down.double().T)
    u, singular, v = torch.linalg.svd(upper @ lower.T)
    if not singular[0] > 0:
        return None
    count = limit.count(singular)
    root, squares = singular[:count].sqrt(), singular.square()
    return Factors(
        (left @ u[:, :count]) * root, root[:, None] * (v[:count] @ right.T), squares[:count].sum().item(),
        squares.sum().item(),
    )  # fmt: skip
