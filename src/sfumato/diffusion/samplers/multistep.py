"""Samplers of one estimate a step that remember the last ones."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from torch import Tensor

from sfumato.diffusion.driver import Job
from sfumato.diffusion.guidance import Guide
from sfumato.diffusion.options import Share, ToFour, ToThree
from sfumato.diffusion.process import ForwardProcess
from sfumato.diffusion.samplers.common import (
    Noise,
    begin_step,
    combine,
    lagrange_integrals,
    order_at,
    split_ancestral,
    steps_of,
    towards,
)

# Adams-Bashforth weights of the last slopes, newest first, for steps of one length.
ADAMS_BASHFORTH = ((1,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


def plms(denoise: Guide, x: Tensor, sigmas: Tensor, path: ForwardProcess, noise: Noise) -> Job:
    """Pseudo linear multistep (Liu et al. 2022): Adams-Bashforth on the slope, begun by one improved Euler step."""
    steps = steps_of(sigmas)
    slopes: list[Tensor] = []  # newest first
    for i, (s, s1) in enumerate(steps):
        x0 = yield from begin_step(denoise, x, s, i, len(steps))
        slopes = [(x - x0) / s, *slopes][:4]
        slope = combine(ADAMS_BASHFORTH[len(slopes) - 1], slopes)
        if i == 0 and s1 > 0:
            ahead = x + (s1 - s) * slope
            slope = (slope + (ahead - (yield from denoise(ahead, s1))) / s1) / 2
        x = x + (s1 - s) * slope
    return x


def ipndm(denoise: Guide, x: Tensor, sigmas: Tensor, path: ForwardProcess, noise: Noise, order: ToFour = 4) -> Job:
    """Improved pseudo numerical method (Zhang & Chen 2022, section 3.3): Adams-Bashforth begun by lower orders."""
    steps = steps_of(sigmas)
    slopes: list[Tensor] = []  # newest first
    for i, (s, s1) in enumerate(steps):
        x0 = yield from begin_step(denoise, x, s, i, len(steps))
        slopes = [(x - x0) / s, *slopes][:order]
        known = slopes if s1 > 0 else slopes[:1]
        x = x + (s1 - s) * combine(ADAMS_BASHFORTH[len(known) - 1], known)
    return x


def lms(denoise: Guide, x: Tensor, sigmas: Tensor, path: ForwardProcess, noise: Noise, order: ToFour = 4) -> Job:
    """Linear multistep (k-diffusion): the slope's polynomial through its last `order` values, integrated over sigma."""
    steps = steps_of(sigmas)
    slopes: list[Tensor] = []  # newest first
    nodes: list[float] = []
    for i, (s, s1) in enumerate(steps):
        x0 = yield from begin_step(denoise, x, s, i, len(steps))
        slopes, nodes = [(x - x0) / s, *slopes][:order], [s, *nodes][:order]
        x = x + combine(lagrange_integrals(nodes, s, s1), slopes)
    return x


def deis(denoise: Guide, x: Tensor, sigmas: Tensor, path: ForwardProcess, noise: Noise, order: ToThree = 3) -> Job:
    """DEIS (Zhang & Chen 2022, equation 15), log-rho: as `lms`, but the polynomial is one in log sigma."""
    steps = steps_of(sigmas)
    slopes: list[Tensor] = []  # newest first
    nodes: list[float] = []
    for i, (s, s1) in enumerate(steps):
        x0 = yield from begin_step(denoise, x, s, i, len(steps))
        slopes, nodes = [(x - x0) / s, *slopes][:order], [math.log(s), *nodes][:order]
        known = order_at(i, len(steps), order)
        if s1 == 0:
            x = x0
        else:
            x = x + combine(lagrange_integrals(nodes[:known], math.log(s), math.log(s1), np.exp), slopes[:known])
    return x


def dpmpp_2m(denoise: Guide, x: Tensor, sigmas: Tensor, path: ForwardProcess, noise: Noise) -> Job:
    """DPM-Solver++(2M) (Lu et al. 2022b, algorithm 2): multistep in log sigma on the estimate."""
    steps, previous = steps_of(sigmas), None
    for i, (s, s1) in enumerate(steps):
        x0 = yield from begin_step(denoise, x, s, i, len(steps))
        estimate = x0
        if previous is not None and s1 > 0:
            before, x0_before = previous
            r = math.log(before / s) / math.log(s / s1)
            estimate = x0 + (x0 - x0_before) / (2 * r)
        previous = s, x0
        x = towards(x, estimate, s, s1)
    return x


def res_multistep(
    denoise: Guide, x: Tensor, sigmas: Tensor, path: ForwardProcess, noise: Noise, eta: Share = 0.0
) -> Job:
    """Refined exponential solver of second order, multistep (Zhang et al. 2023, section 4).

    The straight line in log sigma through the last two estimates is integrated without approximation. With eta > 0
    each step goes past the next level and noise is added; the line is then drawn as if the last step had ended where it
    went down to, as ComfyUI has it.
    """
    steps, previous = steps_of(sigmas), None
    for i, (s, s1) in enumerate(steps):
        x0 = yield from begin_step(denoise, x, s, i, len(steps))
        down, rescale, up = split_ancestral(s, s1, eta, path)
        x = towards(x, x0, s, down)
        if down > 0:
            h = math.log(s / down)
            if previous is not None:
                h_before, x0_before = previous
                x = x + (1 + math.expm1(-h) / h) * (h / h_before) * (x0 - x0_before)
            previous = h, x0
        if up:
            x = rescale * x + up * noise(s, s1)
    return x


def _differences(values: list[Tensor], levels: list[float], h: float) -> tuple[Tensor, Tensor]:
    """First and second derivative, times h and h^2, of what had these values at the last three levels."""
    r0, r1 = math.log(levels[1] / levels[0]) / h, math.log(levels[2] / levels[1]) / h
    new, old = (values[0] - values[1]) / r0, (values[1] - values[2]) / r1
    bend = (new - old) / (r0 + r1)
    return new + r0 * bend, bend


def _multistep(denoise: Guide, x: Tensor, sigmas: Tensor, order: int, on_estimate: bool) -> Job:
    """DPM-Solver (on the slope) or DPM-Solver++ (on the estimate), of order 1 to 3, multistep."""
    steps = steps_of(sigmas)
    values: list[Tensor] = []  # newest first
    levels: list[float] = []
    for i, (s, s1) in enumerate(steps):
        x0 = yield from begin_step(denoise, x, s, i, len(steps))
        values, levels = [x0 if on_estimate else (x - x0) / s, *values][:3], [s, *levels][:3]
        known = order_at(i, len(steps), order) if s1 > 0 else 1
        if known == 1:
            x = towards(x, x0, s, s1)
            continue
        h = math.log(s / s1)
        # Both integrate their polynomial against an exponential: that of h for the slope, of -h for the estimate.
        g, unit = (-h, -1.0) if on_estimate else (h, -s1)
        start = s1 / s * x if on_estimate else x
        phi1 = math.expm1(g)
        if known == 2:
            r = math.log(levels[1] / s) / h
            x = start + unit * phi1 * (values[0] + (values[0] - values[1]) / (2 * r))
        else:
            first, second = _differences(values, levels, h)
            phi2, phi3 = phi1 / g - 1, (phi1 - g) / g**2 - 1 / 2
            x = start + unit * (phi1 * values[0] + phi2 * first + phi3 * second)
    return x


def dpmpp_3m(denoise: Guide, x: Tensor, sigmas: Tensor, path: ForwardProcess, noise: Noise, order: ToThree = 3) -> Job:
    """DPM-Solver++, multistep, of order 1 to 3 (Lu et al. 2022b, appendix B; third order as in the authors' code)."""
    return _multistep(denoise, x, sigmas, order, on_estimate=True)


def dpm_solver(
    denoise: Guide, x: Tensor, sigmas: Tensor, path: ForwardProcess, noise: Noise, order: ToThree = 2
) -> Job:
    """DPM-Solver, multistep, of order 1 to 3 (Lu et al. 2022a; multistep as in the authors' code): on the slope."""
    return _multistep(denoise, x, sigmas, order, on_estimate=False)


def unipc(
    denoise: Guide, x: Tensor, sigmas: Tensor, path: ForwardProcess, noise: Noise, order: ToThree = 2,
    variant: Literal["bh1", "bh2"] = "bh1",
) -> Job:  # fmt: skip
    """UniPC (Zhao et al. 2023, algorithms 1 and 2) on the estimate; `variant` names the B(h): 'bh1' h, 'bh2' e^h - 1.

    Every estimate first corrects the step that led to it, then predicts the next.
    """
    steps = steps_of(sigmas)
    values: list[Tensor] = []  # newest first
    levels: list[float] = []
    start, known = x, 0
    for i, (s, s1) in enumerate(steps):
        x0 = yield from begin_step(denoise, x, s, i, len(steps))
        if i > 0:
            x = _unified(start, values[:known], levels[:known], s, variant, x0)
        values, levels = [x0, *values][:order], [s, *levels][:order]
        known, start = min(order, i + 1, len(steps) - i), x
        x = _unified(x, values[:known], levels[:known], s1, variant)
    return x


def _unified(
    x: Tensor, values: list[Tensor], levels: list[float], s1: float, variant: str, new: Tensor | None = None
) -> Tensor:
    """UniP from levels[0] to s1 given the last estimates, newest first; with the estimate `new` at s1 itself, UniC."""
    s, x0 = levels[0], values[0]
    base = towards(x, x0, s, s1)
    if len(values) == 1 and new is None:
        return base
    h = math.log(s / s1)
    # Places of the other estimates in units of the step, and their differences from the newest.
    places = [-math.log(level / s) / h for level in levels[1:]]
    changes = [(value - x0) / place for value, place in zip(values[1:], places, strict=True)]
    if new is not None:
        places, changes = [*places, 1.0], [*changes, new - x0]
    scale = -h if variant == "bh1" else math.expm1(-h)
    phi, factorial, moments = math.expm1(-h) / -h - 1, 1, []
    for k in range(1, len(places) + 1):
        moments.append(phi * factorial / scale)
        factorial *= k + 1
        phi = phi / -h - 1 / factorial
    # With one place the authors take 1/2 in place of the solution.
    exact = len(places) > 1
    weights = np.linalg.solve(np.vander(places, increasing=True).T, moments).tolist() if exact else [0.5]
    return base - scale * combine(weights, changes)
