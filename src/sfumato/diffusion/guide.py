"""Guides: how the answers of a network become the estimate that a sampler steps with.

A guide is called like a network, `denoise(x, sigma)`, and is a generator of rows, so guides nest.
"""

from __future__ import annotations

from collections.abc import Callable, Generator

import torch
from torch import Tensor

from sfumato.diffusion import predict
from sfumato.diffusion.cond import Cond
from sfumato.diffusion.drive import Denoiser, Row, together
from sfumato.diffusion.path import Path
from sfumato.spec import Prediction

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


def rescale(guide: Guide, positive: Guide, share: float, prediction: Prediction) -> Guide:
    """Bring the spread of a guided output back by `share` of the way to that of the positive estimate's.

    Lin et al. 2023, section 3.4: strong guidance makes pictures too contrasty, the more so where the last training step
    is pure noise. The spreads are those of each picture's network output, hence the kind of `prediction`.
    """
    if share == 0:
        return guide

    def denoise(x: Tensor, sigma: float) -> Estimate:
        guided, plain = yield from together(guide(x, sigma), positive(x, sigma))
        level = torch.tensor([sigma], dtype=torch.float64)
        output, usual = (predict.target(prediction, x0, x, level) for x0 in (guided, plain))
        ratio = usual.std((1, 2, 3), keepdim=True) / output.std((1, 2, 3), keepdim=True)
        return predict.from_output(prediction, output * (1 + share * (ratio - 1)), x, level)

    return denoise


def switch_at(sigma: float, base: Guide, refiner: Guide) -> Guide:
    """`base` down to the noise level sigma, `refiner` below it, with networks and conditionings of their own.

    Both estimate the same x0, so what a sampler remembers stays valid through the hand-over (the ensemble of expert
    denoisers of Podell et al. 2023, section 2.5).
    """

    def denoise(x: Tensor, s: float) -> Estimate:
        return base(x, s) if s >= sigma else refiner(x, s)

    return denoise


def inpaint(guide: Guide, known: Tensor, free_at: Tensor, noise: Callable[[float], Tensor], path: Path) -> Guide:
    """`guide` where a picture is to be drawn, the picture itself elsewhere, so that what is drawn fits to it.

    known (1, C, h, w) are the picture's latents. free_at (1, 1, h, w) is the noise level at and below which a place is
    drawn, infinite where all the way, 0 where never; levels between make it resemble the picture, the lower the more
    (Levin & Fried 2023). `guide` is shown the picture under unit `noise` of each level where it must stay, as the
    original 1.x code does it with new noise every time. Keeping the estimate besides, unlike there, makes the state of
    any sampler, of many steps or many estimates, follow the picture by itself.
    """

    def denoise(x: Tensor, sigma: float) -> Estimate:
        keep = sigma > free_at
        shown = path.alpha(sigma) * known + sigma * noise(sigma)
        x0 = yield from guide(shown.where(keep, x), sigma)
        return known.where(keep, x0)

    return denoise
