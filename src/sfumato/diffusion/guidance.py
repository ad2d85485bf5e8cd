"""Guides: how the answers of a network become the estimate that a sampler steps with.

A guide is called like a network, `denoise(x, sigma)`, and is a generator of rows, so guides nest, in any order. A guide
may remember what it was asked before (`apg` does), so each picture is drawn with its own (`Guidance`).

In the equations p is the positive estimate of x0, n the negative one, and g that of the guide within.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.diffusion import predict
from sfumato.diffusion.cond import Cond, ScheduledCond
from sfumato.diffusion.driver import Denoiser, Row, Score, gather
from sfumato.diffusion.process import ForwardProcess
from sfumato.spec import Prediction

Estimate = Generator[list[Row], list[Tensor], Tensor]
Guide = Callable[[Tensor, float], Estimate]
EVERYWHERE = (0.0, math.inf)  # an interval that holds every noise level


@dataclass(frozen=True)
class Guidance:
    """Makes the guides of pictures: `begin` makes that of one picture.

    With an `unconditional` estimate, its noise is what samplers keep (CFG++, see `samplers.onestep.cfg_pp`).
    """

    begin: Callable[[], Guide]
    unconditional: Guide | None = None

    def through(self, wrap: Callable[..., Guide], *others: Guidance) -> Guidance:
        """Returns the guidance whose guides are those that `wrap` makes of this one's, and of others'."""
        away = [one.unconditional for one in (self, *others)]
        return Guidance(
            lambda: wrap(self.begin(), *(other.begin() for other in others)),
            None if self.unconditional is None else wrap(*away),
        )


def network_guide(denoiser: Denoiser, cond: Cond | ScheduledCond) -> Guide:
    """The network's own estimate under one conditioning."""

    def denoise(x: Tensor, sigma: float) -> Estimate:
        (x0,) = yield [Row(x, sigma, cond.at(sigma), denoiser)]
        return x0

    return denoise


def composed(parts: Sequence[tuple[Guide, float]], negative: Guide) -> Guide:
    """Several positive estimates as one: n + sum of w (p - n) over (p, w) of `parts` (Liu et al. 2022, equation 11).

    One alone of weight 1 is itself and asks nothing of the negative.
    """
    if len(parts) == 1 and parts[0][1] == 1:
        return parts[0][0]

    def denoise(x: Tensor, sigma: float) -> Estimate:
        away, *estimates = yield from gather(negative(x, sigma), *(guide(x, sigma) for guide, _ in parts))
        ways = (weight * (x0 - away) for x0, (_, weight) in zip(estimates, parts, strict=True))
        return away + torch.stack(list(ways)).sum(0)

    return denoise


def gradient(denoiser: Denoiser, cond: Cond | ScheduledCond, score: Score) -> Guide:
    """No estimate, but where the score of the network's own one rises: its gradient with regard to x."""

    def denoise(x: Tensor, sigma: float) -> Estimate:
        (up,) = yield [Row(x, sigma, cond.at(sigma), denoiser, score)]
        return up

    return denoise


def constant_guide(x0: Tensor) -> Guide:
    """An estimate that is there already."""

    def denoise(x: Tensor, sigma: float) -> Estimate:
        yield from ()
        return x0

    return denoise


def in_interval(low: float, high: float, guide: Guide, outside: Guide) -> Guide:
    """`guide` at noise levels from `low` to `high`, and `outside` beyond.

    With classifier-free guidance inside and the positive estimate outside this is guidance in a limited interval
    (Kynkäänniemi et al. 2024): x0 = n + w(sigma) (p - n), with w 1 outside.
    """
    if (low, high) == EVERYWHERE:
        return guide

    def denoise(x: Tensor, sigma: float) -> Estimate:
        return guide(x, sigma) if low <= sigma <= high else outside(x, sigma)

    return denoise


def cfg(positive: Guide, negative: Guide, scale: float) -> Guide:
    """Classifier-free guidance (Ho & Salimans 2022, equation 6): x0 = n + scale (p - n).

    A scale of 1 is the positive estimate alone and asks nothing of the negative.
    """
    if scale == 1:
        return positive

    def denoise(x: Tensor, sigma: float) -> Estimate:
        x0, away = yield from gather(positive(x, sigma), negative(x, sigma))
        return away + scale * (x0 - away)

    return denoise


def apg(positive: Guide, negative: Guide, scale: float, eta: float, norm: float, momentum: float) -> Guide:
    """Adaptive projected guidance (Sadat et al. 2024, algorithm 1): strong guidance that does not oversaturate.

    d = (p - n) + momentum d', with d' that of the question before; where |d| > `norm`, shortened to it (0: never);
    x0 = p + (scale - 1) (d_orthogonal + eta d_parallel), split by the direction of p. eta 1 without the other two is
    `cfg`. It remembers d, so it is the guide of one picture.
    """
    if scale == 1:
        return positive
    before: Tensor | float = 0.0

    def denoise(x: Tensor, sigma: float) -> Estimate:
        nonlocal before
        x0, away = yield from gather(positive(x, sigma), negative(x, sigma))
        before = difference = x0 - away + momentum * before
        if norm:
            length = difference.double().square().sum().sqrt()
            difference = difference * (norm / length).clamp(max=1).to(x0.dtype)
        share = (difference.double() * x0).sum() / x0.double().square().sum()
        parallel = share.to(x0.dtype) * x0
        return x0 + (scale - 1) * (difference - (1 - eta) * parallel)

    return denoise


def push_away(guide: Guide, positive: Guide, degraded: Guide, scale: float) -> Guide:
    """Adds `scale` times the way from a degraded estimate d to the positive one: x0 = g + scale (p - d).

    With a network that lacks some layers as the degraded one this is the skip-layer guidance of 3.5; with one whose
    self-attentions are the identity, perturbed-attention guidance (Ahn et al. 2024).
    """

    def denoise(x: Tensor, sigma: float) -> Estimate:
        x0, good, bad = yield from gather(guide(x, sigma), positive(x, sigma), degraded(x, sigma))
        return x0 + scale * (good - bad)

    return denoise


def classifier_guidance(guide: Guide, slope: Guide, scale: float, path: ForwardProcess) -> Guide:
    """Classifier guidance (Dhariwal & Nichol 2021, algorithm 2): the noise, less scale sigma times a score's `slope`.

    As n = (x - alpha x0) / sigma, that is x0 = g + scale sigma^2 / alpha slope. With CLIP's cosine of picture and
    prompt as the score it is CLIP guidance (Nichol et al. 2021, section 2.4). Pure noise, where alpha is 0, says
    nothing of x0 and is left alone.
    """

    def denoise(x: Tensor, sigma: float) -> Estimate:
        alpha = path.alpha(sigma)
        if alpha <= 0:
            return (yield from guide(x, sigma))
        x0, up = yield from gather(guide(x, sigma), slope(x, sigma))
        return x0 + scale * sigma**2 / alpha * up

    return denoise


def rescale(guide: Guide, positive: Guide, share: float, prediction: Prediction) -> Guide:
    """Bring the spread of a guided output back by `share` of the way to that of the positive estimate's.

    Lin et al. 2023, section 3.4: strong guidance makes pictures too contrasty, the more so where the last training step
    is pure noise. The spreads are those of each picture's network output, hence the kind of `prediction`.
    """
    if share == 0:
        return guide

    def denoise(x: Tensor, sigma: float) -> Estimate:
        guided, plain_x0 = yield from gather(guide(x, sigma), positive(x, sigma))
        level = torch.tensor([sigma], dtype=torch.float64)
        output, usual = (predict.target(prediction, x0, x, level) for x0 in (guided, plain_x0))
        ratio = usual.std((1, 2, 3), keepdim=True) / output.std((1, 2, 3), keepdim=True)
        return predict.from_output(prediction, output * (1 + share * (ratio - 1)), x, level)

    return denoise


def dynamic_threshold(guide: Guide, percentile: float, limit: float = 1.0) -> Guide:
    """Dynamic thresholding (Saharia et al. 2022, section 2.3): values beyond `limit` are cut and drawn back into it.

    s = max(limit, that quantile of |x0|); x0 is clamped to [-s, s] and multiplied by limit / s.
    """

    def denoise(x: Tensor, sigma: float) -> Estimate:
        x0 = yield from guide(x, sigma)
        return _into(x0, _quantile(x0.abs().flatten(), percentile).clamp(min=limit), limit)

    return denoise


def latent_threshold(guide: Guide, mimicked: Guide, percentile: float) -> Guide:
    """Dynamic thresholding for latents, whose channels have no common zero or limit.

    Each channel about its mean is cut at its quantile and drawn back to that of another estimate, such as one of weaker
    guidance. A channel that is not spread wider stays as it is.
    """

    def denoise(x: Tensor, sigma: float) -> Estimate:
        x0, usual = yield from gather(guide(x, sigma), mimicked(x, sigma))
        means = x0.mean((2, 3), keepdim=True)
        spread, limit = (
            _quantile((each - each.mean((2, 3), keepdim=True)).abs().flatten(2), percentile)[..., None, None]
            for each in (x0, usual)
        )
        return means + _into(x0 - means, spread.maximum(limit), limit)

    return denoise


def _into(x: Tensor, size: Tensor, limit: Tensor | float) -> Tensor:
    """x clamped to +-size, then scaled so that size becomes limit."""
    return x.minimum(size).maximum(-size) * (limit / size)


def _quantile(x: Tensor, share: float) -> Tensor:
    """The quantile of (..., N) along its last axis, between two values linearly; of any N, which torch's is not."""
    position = share * (x.shape[-1] - 1)
    below = int(position)
    ordered = x.sort(-1).values
    return ordered[..., below].lerp(ordered[..., min(below + 1, x.shape[-1] - 1)], position - below)


def switch_at(sigma: float, base: Guide, refiner: Guide) -> Guide:
    """`base` down to the noise level sigma, `refiner` below it, with networks and conditionings of their own.

    Both estimate the same x0, so what a sampler remembers stays valid through the hand-over (the ensemble of expert
    denoisers of Podell et al. 2023, section 2.5).
    """

    def denoise(x: Tensor, s: float) -> Estimate:
        return base(x, s) if s >= sigma else refiner(x, s)

    return denoise


def inpaint(
    guide: Guide, picture: Tensor, free_at: Tensor, noise: Callable[[float], Tensor], path: ForwardProcess
) -> Guide:
    """`guide` where a picture is to be drawn, the picture itself elsewhere, so that what is drawn fits to it.

    picture (1, C, h, w) are its latents. free_at (1, 1, h, w) is the noise level at and below which a place is
    drawn, infinite where all the way, 0 where never; levels between make it resemble the picture, the lower the more
    (Levin & Fried 2023). `guide` is shown the picture under unit `noise` of each level where it must stay, as the
    original 1.x code does it with new noise every time. Keeping the estimate besides, unlike there, makes the state of
    any sampler, of many steps or many estimates, follow the picture by itself.
    """

    def denoise(x: Tensor, sigma: float) -> Estimate:
        keep = sigma > free_at
        shown = path.alpha(sigma) * picture + sigma * noise(sigma)
        x0 = yield from guide(shown.where(keep, x), sigma)
        return picture.where(keep, x0)

    return denoise
