"""The kinds of difference that adapters keep of a weight, each with the formula of its authors.

`delta(weight, strength)` is what is added to a weight (out, in, ...), given as float32; the result is float32 of the
same shape. In all kinds but BOFT the strength is a factor of the difference; `Delta.linear` says so.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

EPS = 1e-8


@dataclass(frozen=True, eq=False)
class Delta(ABC):
    """The difference of one weight."""

    linear: ClassVar[bool] = True

    @abstractmethod
    def delta(self, weight: Tensor, strength: float = 1.0) -> Tensor:
        """Returns what is added to the weight. Raises RuntimeError or ValueError for a weight of another shape."""

    def add_to(self, total: Tensor, weight: Tensor, strength: float) -> None:
        """Add the difference of a weight to a contiguous `total`, in place."""
        total += self.delta(weight, strength)


@dataclass(frozen=True, eq=False)
class LowRank(Delta):
    """scale * up down (Hu et al. 2021, LoRA). `down` may be a convolution and `up` (out, r) one of 1x1 after it.

    With `mid` (r, r, kernel) both are 1x1 and the kernel is in the middle (Tucker's form, of LyCORIS).
    """

    up: Tensor
    down: Tensor
    mid: Tensor | None
    scale: float

    def delta(self, weight: Tensor, strength: float = 1.0) -> Tensor:
        up, down = self.up.to(weight).flatten(1), self.down.to(weight)
        if self.mid is None:
            product = up @ down.flatten(1)
        else:
            product = torch.einsum("or,rs...,si->oi...", up, self.mid.to(weight), down.flatten(1))
        return product.reshape(weight.shape).mul_(self.scale * strength)

    def add_to(self, total: Tensor, weight: Tensor, strength: float) -> None:
        if self.mid is not None:
            super().add_to(total, weight, strength)
            return
        up, down = (one.to(weight).flatten(1) for one in (self.up, self.down))
        total.view(len(up), -1).addmm_(up, down, alpha=self.scale * strength)  # without a difference in between


@dataclass(frozen=True, eq=False)
class Full(Delta):
    """The difference itself, of a weight, a bias or a norm's scale."""

    values: Tensor

    def delta(self, weight: Tensor, strength: float = 1.0) -> Tensor:
        return self.values.to(weight).reshape(weight.shape) * strength


@dataclass(frozen=True, eq=False)
class Sparse(Delta):
    """The difference of some entries: their places (d, n) in a weight of the shape `size`, and values (n,)."""

    places: Tensor
    values: Tensor
    size: tuple[int, ...]

    def delta(self, weight: Tensor, strength: float = 1.0) -> Tensor:
        result = torch.zeros_like(weight).reshape(self.size)
        places = tuple(self.places.to(weight.device).long())
        result.index_put_(places, self.values.to(weight) * strength, accumulate=True)
        return result.reshape(weight.shape)


@dataclass(frozen=True, eq=False)
class Sum(Delta):
    """Several differences of the same weight."""

    parts: tuple[Delta, ...]

    def delta(self, weight: Tensor, strength: float = 1.0) -> Tensor:
        return torch.stack([part.delta(weight, strength) for part in self.parts]).sum(0)


@dataclass(frozen=True, eq=False)
class Hadamard(Delta):
    """scale * (a1 b1) * (a2 b2), entry by entry (LoHa; Hyeon-Woo et al. 2021); with cores t1, t2 in Tucker's form."""

    a1: Tensor
    b1: Tensor
    a2: Tensor
    b2: Tensor
    t1: Tensor | None
    t2: Tensor | None
    scale: float

    def delta(self, weight: Tensor, strength: float = 1.0) -> Tensor:
        first = _product(self.a1.to(weight), self.b1.to(weight), self.t1)
        second = _product(self.a2.to(weight), self.b2.to(weight), self.t2)
        return (first * second).reshape(weight.shape) * (self.scale * strength)


def _product(a: Tensor, b: Tensor, core: Tensor | None) -> Tensor:
    """a (out, r) b (r, in ...); with a core (r, r, kernel) both lie on their side: a (r, out), b (r, in)."""
    if core is None:
        return (a @ b.flatten(1)).reshape(len(a), *b.shape[1:])
    return torch.einsum("rs...,ro,si->oi...", core.to(a), a, b)


@dataclass(frozen=True, eq=False)
class Kronecker(Delta):
    """scale * w1 (x) w2 (LoKr; Yeh et al. 2023).

    Each is given itself, or by its factors (a, b); those of w2 may have a core (r, r, kernel).
    """

    w1: Tensor | tuple[Tensor, Tensor]
    w2: Tensor | tuple[Tensor, Tensor]
    core: Tensor | None
    scale: float

    def delta(self, weight: Tensor, strength: float = 1.0) -> Tensor:
        w1, w2 = (one.to(weight) if isinstance(one, Tensor) else None for one in (self.w1, self.w2))
        if isinstance(self.w1, tuple):
            w1 = _product(self.w1[0].to(weight), self.w1[1].to(weight), None)
        if isinstance(self.w2, tuple):
            w2 = _product(self.w2[0].to(weight), self.w2[1].to(weight), self.core)
        assert w1 is not None and w2 is not None
        w1 = w1.reshape(*w1.shape, *[1] * (w2.dim() - w1.dim()))
        return torch.kron(w1, w2.contiguous()).reshape(weight.shape) * (self.scale * strength)


@dataclass(frozen=True, eq=False)
class Decomposed(Delta):
    """The weight with `inner` added, brought to other lengths (DoRA; Liu et al. 2024).

    `magnitude` (out, 1 ...) are the lengths of rows, or (1, in, 1 ...) those of columns. As in the web UIs the whole
    difference, not only the inner one, is scaled by the strength.
    """

    inner: Delta
    magnitude: Tensor

    def delta(self, weight: Tensor, strength: float = 1.0) -> Tensor:
        changed, magnitude = weight + self.inner.delta(weight), self.magnitude.to(weight)
        rows = magnitude.dim() == 1 or len(magnitude) == len(weight)
        axes = [axis for axis in range(weight.dim()) if axis != (0 if rows else 1)]
        lengths = torch.linalg.vector_norm(changed, dim=axes, keepdim=True) + torch.finfo(weight.dtype).eps
        return (changed * (magnitude.reshape(lengths.shape) / lengths) - weight) * strength


@dataclass(frozen=True, eq=False)
class Scaled(Delta):
    """The weight's rows, or with `columns` its columns, times `factor` (IA3; Liu et al. 2022)."""

    factor: Tensor
    columns: bool

    def delta(self, weight: Tensor, strength: float = 1.0) -> Tensor:
        axis = 1 if self.columns else 0
        shape = [-1 if i == axis else 1 for i in range(weight.dim())]
        return weight * self.factor.to(weight).reshape(shape) * strength


@dataclass(frozen=True, eq=False)
class Generalised(Delta):
    """scale * (W a1 a2 + b1 b2) (GLoRA; Chavan et al. 2023)."""

    a1: Tensor
    a2: Tensor
    b1: Tensor
    b2: Tensor
    scale: float

    def delta(self, weight: Tensor, strength: float = 1.0) -> Tensor:
        a1, a2, b1 = (one.to(weight).flatten(1) for one in (self.a1, self.a2, self.b1))
        seen = torch.einsum("oi...,ir,rj->oj...", weight, a1, a2)
        own = (b1 @ self.b2.to(weight).flatten(1)).reshape(weight.shape)
        return (seen + own) * (self.scale * strength)


def rotations(blocks: Tensor, limit: float) -> Tensor:
    """Returns orthogonal matrices (..., b, b), Cayley's transform of the skew parts of `blocks` (..., b, b).

    A positive `limit` bounds the length of all skew parts together (COFT; Qiu et al. 2023).
    """
    blocks = blocks.float()
    skew = blocks - blocks.transpose(-1, -2)
    if limit > 0:
        length = skew.norm() + EPS
        skew = skew * (limit / length).clamp(max=1)
    one = torch.eye(skew.shape[-1], device=skew.device)
    return (one + skew) @ torch.linalg.inv(one - skew)


def _rescaled(turned: Tensor, weight: Tensor, rescale: Tensor | None) -> Tensor:
    """Returns how the turned weight, its rows maybe scaled, differs from the weight."""
    factor = 1 if rescale is None else rescale.to(weight).reshape(-1, *[1] * (weight.dim() - 1))
    return factor * turned - weight


@dataclass(frozen=True, eq=False)
class Rotated(Delta):
    """The weight's rows turned in blocks (n, b, b) of neighbouring ones (OFT; Qiu et al. 2023), and maybe rescaled."""

    blocks: Tensor
    rescale: Tensor | None
    limit: float

    def delta(self, weight: Tensor, strength: float = 1.0) -> Tensor:
        turn = rotations(self.blocks.to(weight), self.limit * len(weight))
        rows = weight.unflatten(0, turn.shape[:2])
        turned = torch.einsum("knm,kn...->km...", turn, rows).flatten(0, 1)
        return _rescaled(turned, weight, self.rescale) * strength


def block_side(numbers: int) -> int:
    """The side of a square whose part above the diagonal has so many numbers."""
    return round((1 + math.sqrt(1 + 8 * numbers)) / 2)


def skew_of(vectors: Tensor) -> Tensor:
    """Returns skew matrices (n, b, b), whose parts above the diagonal are `vectors` (n, b (b - 1) / 2)."""
    side = block_side(vectors.shape[-1])
    skew = vectors.new_zeros(len(vectors), side, side)
    above = torch.triu_indices(side, side, 1)
    skew[:, above[0], above[1]] = vectors
    return skew - skew.transpose(1, 2)


@dataclass(frozen=True, eq=False)
class TurnedInputs(Delta):
    """The weight's columns turned in blocks, as peft has OFT and BOFT of one stage, and its rows maybe rescaled.

    `skew` (n, b, b) are skew matrices Q, or one for all blocks. peft turns by (1 - Q) / (1 + Q), or with `terms` by the
    first terms of the series of (1 + Q) / (1 - Q), of the last of which it takes half.
    """

    skew: Tensor
    terms: int | None = None
    rescale: Tensor | None = None

    def delta(self, weight: Tensor, strength: float = 1.0) -> Tensor:
        skew = self.skew.to(weight)
        one = torch.eye(skew.shape[-1], device=skew.device).to(skew)
        if self.terms is None:
            turn = torch.linalg.solve(one + skew, one - skew, left=False)
        else:
            powers = [torch.linalg.matrix_power(skew, k) for k in range(1, self.terms)]
            turn = one + 2 * sum(powers[:-1], torch.zeros_like(skew)) + (powers[-1] if powers else 0)
        columns = weight.flatten(1).unflatten(1, (-1, len(one)))
        turned = torch.einsum("onb,ncb->onc", columns, turn.expand(columns.shape[1], -1, -1))
        return _rescaled(turned.reshape(weight.shape), weight, self.rescale) * strength


@dataclass(frozen=True, eq=False)
class Butterfly(Delta):
    """The weight's rows turned in several stages (s, n, b, b), each of which mixes rows farther apart (BOFT; Liu et al.
    2023), and maybe rescaled. The strength draws every stage towards no turn, as in LyCORIS."""

    linear = False
    blocks: Tensor
    rescale: Tensor | None
    limit: float

    def delta(self, weight: Tensor, strength: float = 1.0) -> Tensor:
        turns = rotations(self.blocks.to(weight), self.limit * len(weight))
        size = turns.shape[-1]
        turns = turns * strength + torch.eye(size, device=turns.device) * (1 - strength)
        rows = weight
        for stage, turn in enumerate(turns):
            apart = 2**stage * (size // 2)
            rows = rows.unflatten(0, (-1, 2, apart)).transpose(1, 2).flatten(0, 2).unflatten(0, (-1, size))
            rows = torch.einsum("kij,kj...->ki...", turn, rows).flatten(0, 1)
            rows = rows.unflatten(0, (-1, apart, 2)).transpose(1, 2).flatten(0, 2)
        rescale = None if self.rescale is None else 1 + strength * (self.rescale.to(weight) - 1)
        return _rescaled(rows, weight, rescale)
