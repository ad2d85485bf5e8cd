"""Pictures larger than a network draws: it is asked about windows of them, and what it says is blended.

MultiDiffusion (Bar-Tal et al. 2023, equation 5), for whatever guide: the estimate of each place is the weighted mean of
those of the windows that hold it. The sampler steps with the whole, so windows agree with each other at every step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from sfumato.diffusion.cond import Cond
from sfumato.diffusion.guidance import Estimate, Guide

Window = tuple[slice, slice]
"""Rows and columns."""

Size = TypeVar("Size", bound=Sequence[int])


def windows(size: Sequence[int], side: int, overlap: int, step: int = 1) -> list[Window]:
    """Windows of `side`, or the whole length where that is less, that cover a map of `size` (h, w) row by row.

    They lie evenly, at multiples of `step`, and neighbours share at least `overlap`. All numbers are multiples of it.
    """
    rows, columns = (_stretches(length // step, side // step, overlap // step) for length in size)
    return [
        (slice(step * top, step * bottom), slice(step * left, step * right))
        for top, bottom in rows
        for left, right in columns
    ]


def _stretches(length: int, side: int, overlap: int) -> list[tuple[int, int]]:
    if length <= side:
        return [(0, length)]
    count = math.ceil((length - overlap) / (side - overlap))
    starts = [i * (length - side) // (count - 1) for i in range(count)]
    return [(start, start + side) for start in starts]


def windowed(
    guide: Guide, where: Sequence[Window], overlap: int, change: Callable[[Cond, Window], Cond] = lambda cond, _: cond
) -> Guide:
    """A guide whose every question about a whole map is asked about windows of it.

    `change` changes the conditioning for a window; channels beside the latents (`Cond.concat`) and hints are cut by
    themselves.
    """

    def denoise(x: Tensor, sigma: float) -> Estimate:
        shares = [_share(window, overlap).to(x) for window in where]
        total = torch.zeros_like(x[:, :1])
        for window, share in zip(where, shares, strict=True):
            total[..., *window] += share
        inner, answers = guide(x, sigma), None
        while True:
            try:
                rows = next(inner) if answers is None else inner.send(answers)
            except StopIteration as stop:
                return stop.value
            replies = yield [
                replace(row, x=row.x[..., *window], cond=change(cut(row.cond, window, *row.x.shape[2:]), window))
                for row in rows
                for window in where
            ]
            answers, rest = [], iter(replies)
            for row in rows:
                blend = torch.zeros_like(row.x)
                for window, share in zip(where, shares, strict=True):
                    blend[..., *window] += share * next(rest)
                answers.append(blend / total)

    return denoise


def cut(cond: Cond, window: Window, height: int, width: int) -> Cond:
    """The conditioning of a window of a map of `height` x `width`: its part of the channels beside, and of every hint.

    Hints of fewer places than the map are cut at the nearest of their own.
    """

    def part(hint: Tensor) -> Tensor:
        if hint.ndim < 4:
            return hint
        rows, columns = window
        return hint[..., _nearest(rows, hint.shape[2], height), _nearest(columns, hint.shape[3], width)]

    concat = None if cond.concat is None else cond.concat[..., *window]
    return replace(cond, concat=concat, hints=tuple(map(part, cond.hints)))


def _nearest(stretch: slice, places: int, whole: int) -> slice:
    """A stretch of a length `whole` in one of `places`."""
    length = -(-(stretch.stop - stretch.start) * places // whole)
    start = min(round(stretch.start * places / whole), places - length)
    return slice(start, start + length)


def _share(window: Window, overlap: int) -> Tensor:
    """Returns the weight of a window at each of its places: it rises from the edges inwards over `overlap`."""
    ramps = []
    for stretch in window:
        length = stretch.stop - stretch.start
        places = torch.arange(length, dtype=torch.float64) + 0.5
        edge = torch.minimum(places, length - places)
        ramps.append((edge / max(overlap, 1)).clamp(max=1).mul(math.pi / 2).sin().square())
    return ramps[0][:, None] * ramps[1]
