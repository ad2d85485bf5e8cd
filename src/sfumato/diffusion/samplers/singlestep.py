"""Samplers that ask several times within a step and remember nothing between steps."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from sfumato.diffusion.driver import Job, Row, Step
from sfumato.diffusion.guidance import Estimate, Guide
from sfumato.diffusion.options import NotNegative, Positive, Range, Share
from sfumato.diffusion.process import ForwardProcess
from sfumato.diffusion.samplers.common import (
    Noise,
    begin_step,
    churn_rate,
    churned,
    raised,
    split_ancestral,
    steps_of,
    towards,
)
from sfumato.diffusion.sigma_schedules import karras_between
from sfumato.errors import SfumatoError


def heun(
    denoise: Guide, x: Tensor, sigmas: Tensor, path: ForwardProcess, noise: Noise, s_churn: NotNegative = 0.0,
    s_tmin: NotNegative = 0.0, s_tmax: NotNegative = math.inf,
) -> Job:  # fmt: skip
    """Heun's second-order method (Karras et al. 2022, algorithm 2; without churn 1).

    s_churn, s_tmin and s_tmax are those of `euler`.
    """
    steps = steps_of(sigmas)
    for i, (s, s1) in enumerate(steps):
        hat, s_hat = churned(x, s, churn_rate(s, len(steps), s_churn, s_tmin, s_tmax), path, noise)
        x0 = yield from begin_step(denoise, hat, s_hat, i, len(steps))
        x = yield from _trapezium(denoise, hat, x0, s_hat, s1)
    return x


def _trapezium(denoise: Guide, x: Tensor, x0: Tensor, s: float, s1: float) -> Estimate:
    """From s to s1 by the mean of the slopes at both; to 0 by the first alone."""
    ahead = towards(x, x0, s, s1)
    if s1 == 0:
        return ahead
    return x + (s1 - s) * ((x - x0) / s + (ahead - (yield from denoise(ahead, s1))) / s1) / 2


def restart(
    denoise: Guide, x: Tensor, sigmas: Tensor, path: ForwardProcess, noise: Noise,
    restarts: Annotated[int, Range(-1, 100)] = -1, s_tmin: NotNegative = 0.1, s_tmax: NotNegative = 2.0,
) -> Job:  # fmt: skip
    """Heun's method that goes back up by fresh noise and down again (Xu et al. 2023, algorithm 1).

    From the level nearest to s_tmin it rises to that nearest to s_tmax, both ratios of noise to signal, `restarts`
    times; -1 stands for none below 20 steps, 1 from there and 2 from 36 on, as in A1111. The list's steps are divided
    among the way down and the restarts, each of which takes 9, or from 36 on a quarter of them, spaced as by Karras.
    Raises SfumatoError where that leaves no step for the way down.
    """
    total = len(sigmas) - 1
    times = (total >= 20) + (total >= 36) if restarts == -1 else restarts
    length = total // 4 if total >= 36 else 9
    if times * length >= total:
        raise SfumatoError(f"{times} restarts of {length} steps need more than {total} steps; choose fewer restarts")
    steps = _with_restarts(sigmas, times, length, s_tmin, s_tmax, path)
    level = steps[0][0]
    for i, (s, s1) in enumerate(steps):
        if s > level:
            x = raised(x, level, s, path, noise)
        x0 = yield from begin_step(denoise, x, s, i, len(steps))
        x, level = (yield from _trapezium(denoise, x, x0, s, s1)), s1
    return x


def _with_restarts(
    sigmas: Tensor, times: int, length: int, low: float, high: float, path: ForwardProcess
) -> list[tuple[float, float]]:
    """(s, s1) of as many steps as the list has; of its own where it does not pass through both levels."""
    way = _respaced(sigmas, len(sigmas) - 1 - times * length)
    ratios = way / path.alpha(way)
    bottom, top = (int((ratios - level).abs().argmin()) for level in (low, high))
    if not times or top >= bottom:
        return steps_of(sigmas)
    again = karras_between(ratios[bottom].item(), ratios[top].item(), length + 1)[:-1]
    levels = torch.tensor([path.sigma_at(ratio) for ratio in again.tolist()], dtype=torch.float64)
    return [*steps_of(way[: bottom + 1]), *steps_of(levels) * times, *steps_of(way[bottom:])]


def _respaced(sigmas: Tensor, steps: int) -> Tensor:
    """The list with fewer steps, by straight lines between its levels to the power 1/7: one of Karras stays one."""
    levels, end = sigmas[sigmas > 0], sigmas[sigmas == 0]
    places = np.linspace(0, len(levels) - 1, steps + 1 - len(end))
    powers = np.interp(places, np.arange(len(levels)), levels.numpy() ** (1 / 7))
    return torch.cat([torch.from_numpy(powers**7), end])


def _midpoint(denoise: Guide, x: Tensor, x0: Tensor, s: float, s1: float) -> Estimate:
    """From s to s1 > 0 by the slope at their geometric mean."""
    middle = math.sqrt(s * s1)
    between = towards(x, x0, s, middle)
    return x + (s1 - s) * (between - (yield from denoise(between, middle))) / middle


def dpm_2(
    denoise: Guide, x: Tensor, sigmas: Tensor, path: ForwardProcess, noise: Noise, s_churn: NotNegative = 0.0,
    s_tmin: NotNegative = 0.0, s_tmax: NotNegative = math.inf,
) -> Job:  # fmt: skip
    """The midpoint method in log sigma (k-diffusion's reading of DPM-Solver-2 and Karras et al. 2022, algorithm 2).

    The churn options are those of `euler`.
    """
    steps = steps_of(sigmas)
    for i, (s, s1) in enumerate(steps):
        hat, s_hat = churned(x, s, churn_rate(s, len(steps), s_churn, s_tmin, s_tmax), path, noise)
        x0 = yield from begin_step(denoise, hat, s_hat, i, len(steps))
        x = (yield from _midpoint(denoise, hat, x0, s_hat, s1)) if s1 > 0 else x0
    return x


def dpm_2_ancestral(
    denoise: Guide, x: Tensor, sigmas: Tensor, path: ForwardProcess, noise: Noise, eta: Share = 1.0
) -> Job:
    """The midpoint method in log sigma past the next level, then noise up to it (k-diffusion)."""
    steps = steps_of(sigmas)
    for i, (s, s1) in enumerate(steps):
        x0 = yield from begin_step(denoise, x, s, i, len(steps))
        down, rescale, up = split_ancestral(s, s1, eta, path)
        x = (yield from _midpoint(denoise, x, x0, s, down)) if down > 0 else towards(x, x0, s, down)
        if up:
            x = rescale * x + up * noise(s, s1)
    return x


def dpmpp_2s_ancestral(
    denoise: Guide, x: Tensor, sigmas: Tensor, path: ForwardProcess, noise: Noise, eta: Share = 1.0
) -> Job:
    """DPM-Solver++(2S) (Lu et al. 2022b, algorithm 1) past the next level, then noise up to it (k-diffusion)."""
    steps = steps_of(sigmas)
    for i, (s, s1) in enumerate(steps):
        x0 = yield from begin_step(denoise, x, s, i, len(steps))
        down, rescale, up = split_ancestral(s, s1, eta, path)
        if down > 0:
            middle = math.sqrt(s * down)
            x0 = yield from denoise(towards(x, x0, s, middle), middle)
        x = towards(x, x0, s, down)
        if up:
            x = rescale * x + up * noise(s, s1)
    return x


def dpmpp_2s(denoise: Guide, x: Tensor, sigmas: Tensor, path: ForwardProcess, noise: Noise) -> Job:
    """DPM-Solver++(2S) (Lu et al. 2022b, algorithm 1) over pairs of steps, whose middle level is the list's own.

    A step that is left over, and one that would reach 0, is Euler's.
    """
    steps = steps_of(sigmas)
    begun: tuple[Tensor, Tensor, float] | None = None  # x, x0 and level at which a pair began
    for i, (s, s1) in enumerate(steps):
        x0 = yield from begin_step(denoise, x, s, i, len(steps))
        if begun is None or s1 == 0:
            begun, x = (x, x0, s), towards(x, x0, s, s1)
            continue
        first, x0_first, s_first = begun
        share = math.log(s_first / s) / math.log(s_first / s1)
        x, begun = towards(first, x0_first + (x0 - x0_first) / (2 * share), s_first, s1), None
    return x


def _dpm_solver(
    denoise: Guide, x: Tensor, d: Tensor, s: float, s1: float, order: int, r: float
) -> Generator[list[Row], list[Tensor], tuple[Tensor, Tensor]]:
    """(lower, x at s1): DPM-Solver of order 1 to 3 (Lu et al. 2022a, algorithms 1 and 2), given the slope d at s.

    r places the first inner estimate in log sigma; `lower` is the solution of one order less (order 3 only).
    """
    h = math.log(s / s1)
    euler = x + (s1 - s) * d
    if order == 1:
        return euler, euler
    inner = s ** (1 - r) * s1**r
    u1 = x + (inner - s) * d
    d1 = (u1 - (yield from denoise(u1, inner))) / inner - d
    second = euler + (s1 - s) / (2 * r) * d1
    if order == 2:
        return euler, second
    r2 = 2 * r
    inner2 = s ** (1 - r2) * s1**r2
    u2 = x + (inner2 - s) * d - inner2 * r2 / r * (math.expm1(r2 * h) / (r2 * h) - 1) * d1
    d2 = (u2 - (yield from denoise(u2, inner2))) / inner2 - d
    return second, euler - s1 / r2 * (math.expm1(h) / h - 1) * d2


def _ends(sigmas: Tensor) -> tuple[float, float]:
    """The first level of a list and its last above 0, which the two samplers below choose their own levels between."""
    return sigmas[0].item(), sigmas[sigmas > 0][-1].item()


def dpm_fast(denoise: Guide, x: Tensor, sigmas: Tensor, path: ForwardProcess, noise: Noise, eta: Share = 0.0) -> Job:
    """DPM-Solver-fast (Lu et al. 2022a, section 3.4): third-order steps evenly spaced in log sigma, then what is left.

    Asks as often as the list has steps; of the list only the ends are used. It stops at the last level above 0.
    """
    calls, (start, end) = len(sigmas) - 1, _ends(sigmas)
    if start == end:
        return (yield from _only_step(denoise, x, sigmas))
    orders = [3] * (calls // 3 - 1) + [2, 1] if calls % 3 == 0 else [3] * (calls // 3) + [calls % 3]
    levels = [*(start * (end / start) ** (i / len(orders)) for i in range(len(orders))), end]
    for i, order in enumerate(orders):
        s, s1 = levels[i], levels[i + 1]
        x0 = yield from denoise(x, s)
        yield Step(i, len(orders), s, x, x0)
        down, rescale, up = _down_no_lower(s, s1, end, eta, path)
        _, x = yield from _dpm_solver(denoise, x, (x - x0) / s, s, down, order, 1 / 2 if order == 2 else 1 / 3)
        if up:
            x = rescale * x + up * noise(s, s1)
    return x


def _down_no_lower(s: float, s1: float, end: float, eta: float, path: ForwardProcess) -> tuple[float, float, float]:
    """`split_ancestral`, never below the end of the list."""
    down, rescale, up = split_ancestral(s, s1, eta, path)
    if down < end:
        rescale = path.alpha(s1) / path.alpha(end)
        return end, rescale, math.sqrt(max(0.0, s1**2 - (rescale * end) ** 2))
    return down, rescale, up


def _only_step(denoise: Guide, x: Tensor, sigmas: Tensor) -> Job:
    """The step of a list that has only one level above 0."""
    s, s1 = steps_of(sigmas)[0]
    x0 = yield from denoise(x, s)
    yield Step(0, 1, s, x, x0)
    return towards(x, x0, s, s1)


def dpm_adaptive(
    denoise: Guide, x: Tensor, sigmas: Tensor, path: ForwardProcess, noise: Noise, rtol: Positive = 0.05,
    atol: Positive = 0.0078, h: Positive = 0.05,
) -> Job:  # fmt: skip
    """DPM-Solver-23 with adaptive steps (Lu et al. 2022a, appendix C): third order, judged by the second.

    Of the list only the ends are used. A step is taken when the difference of the two orders is within atol or rtol of
    the state; h is the first step in log sigma. Progress is counted in hundredths of the way.
    """
    s, end = _ends(sigmas)
    if s == end:
        return (yield from _only_step(denoise, x, sigmas))
    whole, lower_before, x0 = math.log(s / end), x, None
    while math.log(s / end) > 1e-5:
        if x0 is None:
            x0 = yield from denoise(x, s)
            yield Step(int(100 * (1 - math.log(s / end) / whole)), 100, s, x, x0)
        s1 = max(end, s * math.exp(-h))
        lower, higher = yield from _dpm_solver(denoise, x, (x - x0) / s, s, s1, 3, 1 / 3)
        allowed = (rtol * lower.abs().maximum(lower_before.abs())).clamp(min=atol)
        error = ((lower - higher) / allowed).square().mean().sqrt().item()
        if not math.isfinite(error):
            raise SfumatoError("the network's estimates are not finite; load the model as float32")
        factor = 1 + math.atan((1 / (error + 1e-8)) ** (1 / 3) - 1)
        if factor >= 0.81:
            x, lower_before, s, x0 = higher, lower, s1, None
        h *= factor
    return x
