"""A map cut into tiles that a network sees one at a time, each with a margin, so that its memory stays the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Span:
    """One side of a tile: [start, stop) is its own, [first, last) what the network sees for it."""

    start: int
    stop: int
    first: int
    last: int

    def inner(self, length: int) -> slice:
        """Returns where the tile's own part lies in the network's result, which is `length` long."""
        seen = self.last - self.first
        return slice((self.start - self.first) * length // seen, (self.stop - self.first) * length // seen)

    def outer(self, length: int, whole: int) -> slice:
        """Returns where that part lies in the result for a side of `whole`, which is `length` long."""
        return slice(self.start * length // whole, self.stop * length // whole)


def spans(length: int, side: int, halo: int) -> list[Span]:
    """A length cut into stretches of `side`, each seen with `halo` more where the length goes on."""
    stops = [*range(side, length, side), length]
    starts = [0, *stops[:-1]]
    return [Span(a, b, max(a - halo, 0), min(b + halo, length)) for a, b in zip(starts, stops, strict=True)]


@dataclass(frozen=True)
class Tile:
    rows: Span
    columns: Span

    def seen(self, x: Tensor) -> Tensor:
        """Returns what the network sees of a map (B, C, h, w): the tile and its margin."""
        return x[..., self.rows.first : self.rows.last, self.columns.first : self.columns.last]

    def inner(self, y: Tensor) -> Tensor:
        """The tile's own part of what the network made of `seen`, at whatever resolution."""
        return y[..., self.rows.inner(y.shape[-2]), self.columns.inner(y.shape[-1])]

    def place(self, result: Tensor, size: Sequence[int]) -> Tensor:
        """Returns where that part belongs in the result for a map of `size` (h, w)."""
        (height, width), (h, w) = result.shape[-2:], size
        return result[..., self.rows.outer(height, h), self.columns.outer(width, w)]


def tiles(size: Sequence[int], side: int, halo: int) -> list[Tile]:
    """Tiles of `side` that cover a map of `size` (h, w), row by row, each seen with `halo` more around it."""
    rows, columns = (spans(length, side, halo) for length in size)
    return [Tile(row, column) for row in rows for column in columns]
