"""Solvers of the stochastic equation: exponential in log SNR, with fresh noise in every step."""

from __future__ import annotations

import math

from torch import Tensor

from sfumato.diffusion.drive import Job, Step
from sfumato.diffusion.guide import Guide
from sfumato.diffusion.path import Path
from sfumato.diffusion.samplers.common import Noise, lam, split_ancestral, steps_of, towards


def dpmpp_sde(
    denoise: Guide, x: Tensor, sigmas: Tensor, path: Path, noise: Noise, eta: float = 1.0, r: float = 0.5
) -> Job:
    """DPM-Solver++ single step for the stochastic equation (Lu et al. 2022b): two estimates a step, at s and between.

    r places the second estimate in log sigma.
    """
    steps = steps_of(sigmas)
    for i, (s, s1) in enumerate(steps):
        x0 = yield from denoise(x, s)
        yield Step(i, len(steps), s, x, x0)
        if s1 == 0:
            x = x0
            continue
        middle = s ** (1 - r) * s1**r
        x0_between = yield from denoise(_ancestral(x, x0, s, middle, eta, path, noise), middle)
        x = _ancestral(x, x0 + (x0_between - x0) / (2 * r), s, s1, eta, path, noise)
    return x


def _ancestral(x: Tensor, x0: Tensor, s: float, s1: float, eta: float, path: Path, noise: Noise) -> Tensor:
    down, rescale, up = split_ancestral(s, s1, eta, path)
    x = towards(x, x0, s, down)
    return rescale * x + up * noise(s, s1) if up else x


def _first_order(x: Tensor, x0: Tensor, s: float, s1: float, eta: float, path: Path) -> tuple[Tensor, float, float]:
    """(mean of x at s1 for a constant estimate, h, h of the equation with its noise); h is the step in log SNR / 2."""
    h = lam(s1, path) - lam(s, path)
    total = h * (1 + eta)
    return s1 / s * math.exp(-eta * h) * x - path.alpha(s1) * math.expm1(-total) * x0, h, total


def _added(s: float, s1: float, h: float, eta: float, noise: Noise) -> Tensor | float:
    return s1 * math.sqrt(-math.expm1(-2 * eta * h)) * noise(s, s1) if eta else 0.0


def dpmpp_2m_sde(
    denoise: Guide, x: Tensor, sigmas: Tensor, path: Path, noise: Noise, eta: float = 1.0, solver: str = "midpoint"
) -> Job:
    """DPM-Solver++(2M) for the stochastic equation (Lu et al. 2022b, section 5); solver is 'midpoint' or 'heun'."""
    steps, previous = steps_of(sigmas), None
    for i, (s, s1) in enumerate(steps):
        x0 = yield from denoise(x, s)
        yield Step(i, len(steps), s, x, x0)
        if s1 == 0:
            x = x0
            continue
        x, h, total = _first_order(x, x0, s, s1, eta, path)
        if previous is not None:
            h_before, x0_before = previous
            second = math.expm1(-total) / total + 1 if solver == "heun" else -math.expm1(-total) / 2
            x = x + path.alpha(s1) * second * (h / h_before) * (x0 - x0_before)
        x = x + _added(s, s1, h, eta, noise)
        previous = h, x0
    return x


def dpmpp_3m_sde(denoise: Guide, x: Tensor, sigmas: Tensor, path: Path, noise: Noise, eta: float = 1.0) -> Job:
    """DPM-Solver++(3M) for the stochastic equation (k-diffusion): the estimate's parabola through its last values."""
    steps = steps_of(sigmas)
    before: list[tuple[float, Tensor]] = []  # (h, estimate) of the last steps, newest first
    for i, (s, s1) in enumerate(steps):
        x0 = yield from denoise(x, s)
        yield Step(i, len(steps), s, x, x0)
        if s1 == 0:
            x = x0
            continue
        x, h, total = _first_order(x, x0, s, s1, eta, path)
        phi2 = math.expm1(-total) / total + 1
        if before:
            r0 = before[0][0] / h
            slope = (x0 - before[0][1]) / r0
            if len(before) == 2:
                r1 = before[1][0] / h
                bend = (slope - (before[0][1] - before[1][1]) / r1) / (r0 + r1)
                slope = slope + r0 * bend
                x = x - path.alpha(s1) * (phi2 / total - 1 / 2) * bend
            x = x + path.alpha(s1) * phi2 * slope
        x = x + _added(s, s1, h, eta, noise)
        before = [(h, x0), *before][:2]
    return x
