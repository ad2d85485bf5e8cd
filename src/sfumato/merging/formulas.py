"""Formulas that make one tensor of several, a piece of bounded size at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from sfumato.seeding import stream

PIECE = 1 << 18  # elements that are computed with at once: what a processor keeps near
PARALLEL = 0.9995  # cosine from which slerp is a weighted sum (Shoemake 1985 divides by the sine, which is then 0)

Combine = Callable[[Sequence[Tensor], int], Tensor]  # the pieces of all tensors, and the piece's number -> the result

Store = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class How:
    """What a formula is told: a weight for each model that has one, the share of differences that is kept, a seed."""

    weights: tuple[float, ...]
    density: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Method:
    """A way of merging. `prepare(tensors, how, name)` looks at whole tensors and returns what combines their pieces.

    `models` are the least and the most it takes (None: any number); the first model is A. `weight` is the default, None
    for one over the number of weights. `per_model`: there is a weight for each model (`based`: but A), not only one.
    `density` is the default of the methods that have one, `random` whether a seed matters.
    """

    formula: str
    models: tuple[int, int | None]
    prepare: Callable[[Sequence[Tensor], How, str], Combine]
    weight: float | None = 0.5
    per_model: bool = False
    based: bool = False
    density: float | None = None
    random: bool = False

    def defaults(self, models: int) -> tuple[float, ...]:
        """The weights of so many models where none are given."""
        count = models - self.based if self.per_model else 1
        return (1 / count if self.weight is None else self.weight,) * count


def combine(
    method: Method, tensors: Sequence[Tensor], how: How, name: str, store: Store = lambda piece: piece
) -> Tensor:
    """The tensor that a method makes of tensors of one shape, computed in float32 (of any float64 in float64).

    `name` is the tensor's; random choices depend on it, and not on the order in which tensors come. `store` gives each
    piece of the result the type that it shall have.
    """
    flat = [tensor.reshape(-1) for tensor in tensors]
    apply = method.prepare(flat, how, name)
    result = torch.empty(flat[0].numel(), dtype=store(torch.empty(0, dtype=_precision(flat))).dtype)
    for number, pieces in enumerate(_pieces(flat)):
        result[number * PIECE : number * PIECE + len(pieces[0])] = store(apply(pieces, number))
    return result.reshape(tensors[0].shape)


def _precision(tensors: Sequence[Tensor]) -> torch.dtype:
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32


def _pieces(flat: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    dtype = _precision(flat)
    for start in range(0, flat[0].numel(), PIECE):
        yield [tensor[start : start + PIECE].to(dtype) for tensor in flat]


def _alone(tensors: Sequence[Tensor], how: How, name: str) -> Combine:
    return lambda pieces, number: pieces[0]


def _sum(tensors: Sequence[Tensor], how: How, name: str) -> Combine:
    (w,) = how.weights
    return lambda pieces, number: pieces[0] * (1 - w) + pieces[1] * w


def _difference(tensors: Sequence[Tensor], how: How, name: str) -> Combine:
    (w,) = how.weights
    return lambda pieces, number: pieces[0] + w * (pieces[1] - pieces[2])


def _mean(tensors: Sequence[Tensor], how: How, name: str) -> Combine:
    shares = [w / sum(how.weights) for w in how.weights]
    return lambda pieces, number: _total([piece * share for piece, share in zip(pieces, shares, strict=True)])


def _slerp(tensors: Sequence[Tensor], how: How, name: str) -> Combine:
    """Along the arc between A and B, each tensor as one vector: sin((1-w) angle) A + sin(w angle) B over sin(angle)."""
    (w,) = how.weights
    products = torch.zeros(3, dtype=torch.float64)
    for a, b in _pieces(tensors):
        products += torch.stack([a.double() @ a.double(), b.double() @ b.double(), a.double() @ b.double()])
    aa, bb, ab = products.tolist()
    lengths = math.sqrt(aa * bb)
    cosine = ab / lengths if lengths else 1.0
    if abs(cosine) > PARALLEL:
        return _sum(tensors, how, name)
    angle = math.acos(cosine)
    one, other = math.sin((1 - w) * angle) / math.sin(angle), math.sin(w * angle) / math.sin(angle)
    return lambda pieces, number: pieces[0] * one + pieces[1] * other


def _ties(tensors: Sequence[Tensor], how: How, name: str) -> Combine:
    """TIES (Yadav et al. 2023): the largest of each difference, one sign, the mean of those that agree."""
    least = [smallest_kept(tensors[0], other, how.density) for other in tensors[1:]]

    def apply(pieces: Sequence[Tensor], number: int) -> Tensor:
        changes = [piece - pieces[0] for piece in pieces[1:]]
        kept = [change * (change.float().abs() >= bound) for change, bound in zip(changes, least, strict=True)]
        return pieces[0] + _agreeing(_weighted(kept, how))

    return apply


def _dare(tensors: Sequence[Tensor], how: How, name: str, join: Callable[[list[Tensor]], Tensor]) -> Combine:
    """DARE (Yu et al. 2023): a random share of each difference, divided by that share; `join` makes one of them."""

    def apply(pieces: Sequence[Tensor], number: int) -> Tensor:
        changes = []
        for i, piece in enumerate(pieces[1:]):
            draws = stream(how.seed, f"dare {i} {name}", number).random(len(piece), "float32")
            kept = torch.from_numpy(draws) < how.density
            changes.append((piece - pieces[0]) * kept / how.density)
        return pieces[0] + join(_weighted(changes, how))

    return apply


def _weighted(changes: Sequence[Tensor], how: How) -> list[Tensor]:
    return [change * w for change, w in zip(changes, how.weights, strict=True)]


def _total(terms: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(terms)).sum(0)


def _agreeing(changes: list[Tensor]) -> Tensor:
    """The mean of the changes that have the sign of their sum; 0 where none has."""
    elected = _total(changes).sign()
    agree = [(change.sign() == elected) & (change != 0) for change in changes]
    count = torch.stack(agree).sum(0).clamp(min=1)
    return _total([change * one for change, one in zip(changes, agree, strict=True)]) / count


def smallest_kept(base: Tensor, other: Tensor, density: float) -> float:
    """The k-th largest |other - base| of flat tensors, where k is the share `density` of them (at least one); float32.

    Found by two histograms, of the upper and the lower half of the bits, so that nothing is sorted or copied whole.
    """
    k = max(1, int(density * base.numel()))
    if not base.numel():
        return 0.0
    upper, k = _from_the_top(base, other, k, lambda bits: bits >> 16)
    bits = upper << 16
    lower, _ = _from_the_top(base, other, k, lambda found: found[found >> 16 == upper] & 0xFFFF)
    return torch.tensor(bits | lower, dtype=torch.int32).view(torch.float32).item()


def _from_the_top(base: Tensor, other: Tensor, k: int, half: Callable[[Tensor], Tensor]) -> tuple[int, int]:
    """The value of a half of the bits in which the k-th largest lies, and which of those with this half it is."""
    counts = torch.zeros(1 << 16, dtype=torch.int64)
    for one, two in _pieces([base, other]):
        counts += torch.bincount(half((two - one).float().abs().view(torch.int32)), minlength=1 << 16)
    above = counts.flip(0).cumsum(0)
    place = int(torch.searchsorted(above, k))
    value = len(counts) - 1 - place
    return value, k - int(above[place] - counts[value])


ALONE = "none"  # the method of one model, to which LoRAs are added
METHODS: Mapping[str, Method] = {
    "sum": Method("A (1 - w) + B w", (2, 2), _sum),
    "difference": Method("A + (B - C) w", (3, 3), _difference, weight=1.0),
    "slerp": Method("from A to B along the arc, as far as w", (2, 2), _slerp),
    "mean": Method("the mean of all, each as often as its w", (2, None), _mean, weight=1.0, per_model=True),
    "ties": Method(
        "A + the changes from A to the others: the largest of each, where they agree in sign",
        (2, None), _ties, weight=1.0, per_model=True, based=True, density=0.2,
    ),
    "dare": Method(
        "A + the sum of w times the changes from A to the others: of each a random share",
        (2, None), partial(_dare, join=_total), weight=None, per_model=True, based=True, density=0.5, random=True,
    ),
    "dare-ties": Method(
        "A + the changes from A to the others: of each a random share, where they agree in sign",
        (2, None), partial(_dare, join=_agreeing), weight=1.0, per_model=True, based=True, density=0.5, random=True,
    ),
    ALONE: Method("A", (1, 1), _alone, per_model=True, based=True),
}  # fmt: skip
