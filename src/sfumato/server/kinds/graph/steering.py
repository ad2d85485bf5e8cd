"""Several conditionings as one: each counts in its part of the picture, as strongly and as long as its node says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf

import torch
from torch import Tensor

from sfumato.diffusion.cond import Cond, ScheduledCond
from sfumato.diffusion.driver import Denoiser, gather
from sfumato.diffusion.guidance import Estimate, Guidance, Guide, cfg, network_guide
from sfumato.diffusion.process import ForwardProcess
from sfumato.diffusion.windows import Window
from sfumato.pipeline.prompts import PromptConditioning

RAMP = 8  # latents over which an area fades at edges that are not the picture's own


@dataclass(frozen=True, eq=False)
class Placed:
    """A conditioning that counts with `weight` (1, 1, h, w) of its window, at noise levels from `low` to `high`."""

    cond: ScheduledCond
    weight: Tensor
    window: Window | None = None
    low: float = 0.0
    high: float = inf

    def guide(self, denoiser: Denoiser) -> Guide:
        """The network's estimate of the window; nothing outside it."""
        inner = network_guide(denoiser, self.cond)
        return inner if self.window is None else _within(inner, self.window)

    def spread(self, like: Tensor) -> Tensor:
        """The weights of the whole picture, 0 outside the window."""
        if self.window is None:
            return self.weight.to(like)
        whole = torch.zeros_like(like[:, :1])
        whole[..., *self.window] = self.weight.to(like)
        return whole


def _within(guide: Guide, window: Window) -> Guide:
    def denoise(x: Tensor, sigma: float) -> Estimate:
        x0 = yield from guide(x[..., *window], sigma)
        whole = torch.zeros_like(x)
        whole[..., *window] = x0
        return whole

    return denoise


def averaged(parts: Sequence[Placed], denoiser: Denoiser) -> Guide:
    """The mean of the estimates under all conditionings that count at a noise level, weighted place by place."""
    guides = [one.guide(denoiser) for one in parts]

    def denoise(x: Tensor, sigma: float) -> Estimate:
        active = [k for k, one in enumerate(parts) if one.low <= sigma <= one.high]
        estimates = yield from gather(*(guides[k](x, sigma) for k in active))
        weights = [parts[k].spread(x) for k in active]
        total = sum(weights, torch.full_like(x[:, :1], 1e-37))
        return sum((w * x0 for w, x0 in zip(weights, estimates, strict=True)), torch.zeros_like(x)) / total

    return denoise


@dataclass(frozen=True, eq=False)
class Regions(PromptConditioning):
    """The conditionings of one picture where there are several, or some count in a part only."""

    to: tuple[Placed, ...] = ()
    away: tuple[Placed, ...] = ()

    def positive_guide(self, denoiser: Denoiser) -> Guide:
        return averaged(self.to, denoiser)

    def negative_guide(self, denoiser: Denoiser) -> Guide:
        return averaged(self.away, denoiser)

    def map(self, positive: Callable[[Cond], Cond], negative: Callable[[Cond], Cond]) -> Regions:
        to, away = (
            tuple(replace(one, cond=one.cond.map(change)) for one in side)
            for side, change in ((self.to, positive), (self.away, negative))
        )
        return replace(self, to=to, away=away)


def ramped(weight: Tensor, window: Window, size: tuple[int, int]) -> Tensor:
    """Weights (1, 1, h, w) of a window that fade towards its edges, but for edges of the whole picture of `size`."""
    faded = weight.clone()
    for axis, (part, most) in enumerate(zip(window, size, strict=True), 2):
        length = faded.shape[axis]
        for k in range(min(RAMP, length // 4)):
            share = (k + 1) / min(RAMP, length // 4)
            if part.start > 0:
                faded.narrow(axis, k, 1).mul_(share)
            if part.stop < most:
                faded.narrow(axis, length - 1 - k, 1).mul_(share)
    return faded


def two_steps(positive: Guide, middle: Guide, negative: Guide, scale: float, middle_scale: float) -> Guide:
    """Guided from the negative to the middle, and from the middle to the positive conditioning (Brooks et al. 2023,
    equation 3): x0 = n + middle_scale (m - n) + scale (p - m)."""

    def denoise(x: Tensor, sigma: float) -> Estimate:
        p, m, n = yield from gather(positive(x, sigma), middle(x, sigma), negative(x, sigma))
        return n + middle_scale * (m - n) + scale * (p - m)

    return denoise


def nested(positive: Guide, middle: Guide, negative: Guide, scale: float, middle_scale: float) -> Guide:
    """Guided from the middle to the positive conditioning, and what comes of it once more from the negative one."""
    return cfg(cfg(positive, middle, scale), negative, middle_scale)


Share = Callable[[float], Tensor]
"""How much of each place (1, 1, h, w) is drawn at a noise level."""


def held(guidance: Guidance, picture: Tensor, at: Share, noise: Tensor, path: ForwardProcess) -> Guidance:
    """Guidance that draws only a share of each place; the rest stays the picture (1, C, h, w).

    It is shown the picture under the first `noise` of each level where that stays.
    """

    def wrap(guide: Guide) -> Guide:
        def denoise(x: Tensor, sigma: float) -> Estimate:
            share = at(sigma)
            shown = path.alpha(sigma) * picture + sigma * noise
            x0 = yield from guide(share * x + (1 - share) * shown, sigma)
            return share * x0 + (1 - share) * picture

        return denoise

    return guidance.through(wrap)
