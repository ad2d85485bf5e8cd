"""Guides: how the answers of a network become the estimate that a sampler steps with.

A guide is called like a network, `denoise(x, sigma)`, and is a generator of rows, so guides nest.
"""

from __future__ import annotations

from collections.abc import Callable, Generator

from torch import Tensor

from sfumato.diffusion.cond import Cond
from sfumato.diffusion.drive import Denoiser, Row, together

Estimate = Generator[list[Row], list[Tensor], Tensor]
Guide = Callable[[Tensor, float], Estimate]


def plain(denoiser: Denoiser, cond: Cond) -> Guide:
    """The network's own estimate under one conditioning."""

    def denoise(x: Tensor, sigma: float) -> Estimate:
        (x0,) = yield [Row(x, sigma, cond, denoiser)]
        return x0

    return denoise


def cfg(positive: Guide, negative: Guide, scale: float) -> Guide:
    """Classifier-free guidance (Ho & Salimans 2022): away from the negative estimate, by `scale`.

    A scale of 1 is the positive estimate alone and asks nothing of the negative.
    """
    if scale == 1:
        return positive

    def denoise(x: Tensor, sigma: float) -> Estimate:
        x0, away = yield from together(positive(x, sigma), negative(x, sigma))
        return away + scale * (x0 - away)

    return denoise


def away_from(guide: Guide, positive: Guide, worse: Guide, scale: float, low: float, high: float) -> Guide:
    """Add `scale` times the way from a worse estimate to the positive one, at noise levels from `low` to `high`.

    With a network that lacks some layers as the worse one this is the skip-layer guidance of 3.5.
    """

    def denoise(x: Tensor, sigma: float) -> Estimate:
        if not low <= sigma <= high:
            return (yield from guide(x, sigma))
        x0, good, bad = yield from together(guide(x, sigma), positive(x, sigma), worse(x, sigma))
        return x0 + scale * (good - bad)

    return denoise
