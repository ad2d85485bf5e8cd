"""Solvers of the stochastic equation: exponential in log SNR, with fresh noise in every step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from sfumato.diffusion.driver import Job
from sfumato.diffusion.guidance import Guide
from sfumato.diffusion.noise_schedule import TABLE_1X, Table
from sfumato.diffusion.options import Range, Share, ToFour, ToThree
from sfumato.diffusion.process import ForwardProcess
from sfumato.diffusion.samplers.common import (
    Noise,
    begin_step,
    combine,
    integral,
    lagrange_integrals,
    lam,
    split_ancestral,
    steps_of,
    towards,
)


def dpmpp_sde(
    denoise: Guide, x: Tensor, sigmas: Tensor, path: ForwardProcess, noise: Noise, eta: Share = 1.0,
    r: Annotated[float, Range(0.01, 1)] = 0.5,
) -> Job:  # fmt: skip
    """DPM-Solver++ single step for the stochastic equation (Lu et al. 2022b): two estimates a step, at s and between.

    r places the second estimate in log sigma.
    """
    steps = steps_of(sigmas)
    for i, (s, s1) in enumerate(steps):
        x0 = yield from begin_step(denoise, x, s, i, len(steps))
        if s1 == 0:
            return x0
        middle = s ** (1 - r) * s1**r
        x0_between = yield from denoise(_ancestral(x, x0, s, middle, eta, path, noise), middle)
        x = _ancestral(x, x0 + (x0_between - x0) / (2 * r), s, s1, eta, path, noise)
    return x


def _ancestral(x: Tensor, x0: Tensor, s: float, s1: float, eta: float, path: ForwardProcess, noise: Noise) -> Tensor:
    down, rescale, up = split_ancestral(s, s1, eta, path)
    x = towards(x, x0, s, down)
    return rescale * x + up * noise(s, s1) if up else x


def _first_order(
    x: Tensor, x0: Tensor, s: float, s1: float, eta: float, path: ForwardProcess
) -> tuple[Tensor, float, float]:
    """(mean of x at s1 for a constant estimate, h, h of the equation with its noise); h is the step in log SNR / 2."""
    h = lam(s1, path) - lam(s, path)
    total = h * (1 + eta)
    return s1 / s * math.exp(-eta * h) * x - path.alpha(s1) * math.expm1(-total) * x0, h, total


def _added(s: float, s1: float, h: float, eta: float, noise: Noise) -> Tensor | float:
    return s1 * math.sqrt(-math.expm1(-2 * eta * h)) * noise(s, s1) if eta else 0.0


def dpmpp_2m_sde(
    denoise: Guide, x: Tensor, sigmas: Tensor, path: ForwardProcess, noise: Noise, eta: Share = 1.0,
    solver: Literal["midpoint", "heun"] = "midpoint",
) -> Job:  # fmt: skip
    """DPM-Solver++(2M) for the stochastic equation (Lu et al. 2022b, section 5); solver is 'midpoint' or 'heun'."""
    steps, previous = steps_of(sigmas), None
    for i, (s, s1) in enumerate(steps):
        x0 = yield from begin_step(denoise, x, s, i, len(steps))
        if s1 == 0:
            return x0
        x, h, total = _first_order(x, x0, s, s1, eta, path)
        if previous is not None:
            h_before, x0_before = previous
            second = math.expm1(-total) / total + 1 if solver == "heun" else -math.expm1(-total) / 2
            x = x + path.alpha(s1) * second * (h / h_before) * (x0 - x0_before)
        x = x + _added(s, s1, h, eta, noise)
        previous = h, x0
    return x


def dpmpp_3m_sde(
    denoise: Guide, x: Tensor, sigmas: Tensor, path: ForwardProcess, noise: Noise, eta: Share = 1.0
) -> Job:
    """DPM-Solver++(3M) for the stochastic equation (k-diffusion): the estimate's parabola through its last values."""
    steps = steps_of(sigmas)
    before: list[tuple[float, Tensor]] = []  # (h, estimate) of the last steps, newest first
    for i, (s, s1) in enumerate(steps):
        x0 = yield from begin_step(denoise, x, s, i, len(steps))
        if s1 == 0:
            return x0
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


Logs = TypeVar("Logs", float, np.ndarray)
LogPhi = Callable[[Logs], Logs]

# log phi of a noise-to-signal ratio, given the log of that: how fast the extended equation forgets. The authors' own
# choice of phi is x (e^(x^0.3) + 10); x is the probability flow, x^2 the reverse of the forward equation.
FORGETTING: dict[str, LogPhi] = {
    "er": lambda log: log + np.logaddexp(np.exp(0.3 * log), math.log(10)),
    "ode": lambda log: log,
    "reverse": lambda log: 2 * log,
}


def er_sde(
    denoise: Guide, x: Tensor, sigmas: Tensor, path: ForwardProcess, noise: Noise, order: ToThree = 3,
    variant: Literal["er", "ode", "reverse"] = "er",
) -> Job:  # fmt: skip
    """Extended reverse-time SDE solver of 1 to 3 stages (Cui et al. 2023, algorithms 1 to 3 and equation 21).

    The estimate is expanded in the noise-to-signal ratio; `variant` is the equation that is solved. Where the authors'
    code adds up 200 points, integrals are exact.
    """
    steps, log_phi = steps_of(sigmas), FORGETTING[variant]
    before: list[tuple[float, Tensor]] = []  # (ratio, estimate) of the last steps, newest first
    slope_before: Tensor | None = None
    for i, (s, s1) in enumerate(steps):
        x0 = yield from begin_step(denoise, x, s, i, len(steps))
        if s1 == 0:
            return x0
        log, log1 = -lam(s, path), -lam(s1, path)
        ratio, ratio1, alpha1 = math.exp(log), math.exp(log1), path.alpha(s1)
        kept = math.exp(log_phi(log1) - log_phi(log))
        x = s1 / s * math.exp(log - log1) * kept * x + alpha1 * (1 - kept) * x0
        if before and order > 1:
            slope = (x0 - before[0][1]) / (ratio - before[0][0])
            x = x + alpha1 * _moment(1, log, log1, log_phi) * slope
            if slope_before is not None and order > 2:
                bend = 2 * (slope - slope_before) / (ratio - before[1][0])
                x = x + alpha1 * _moment(2, log, log1, log_phi) * bend
            slope_before = slope
        if variant != "ode":
            x = x + alpha1 * math.sqrt(ratio1**2 - (ratio * kept) ** 2) * noise(s, s1)
        before = [(ratio, x0), *before][:2]
    return x


def _moment(k: int, log: float, log1: float, log_phi: LogPhi) -> float:
    """What a k-th derivative of the estimate, expanded at one ratio, adds to a step from there to another."""
    ratio, end = math.exp(log), log_phi(log1)

    def kept(log_at: np.ndarray) -> np.ndarray:
        at = np.exp(log_at)
        return (at - ratio) ** (k - 1) * np.exp(end - log_phi(log_at)) * at  # d ratio = ratio d log

    return (math.exp(log1) - ratio) ** k / k + integral(kept, log1, log)


def sa_solver(
    denoise: Guide, x: Tensor, sigmas: Tensor, path: ForwardProcess, noise: Noise, order: ToFour = 3,
    corrector: Annotated[int, Range(0, 4)] = 4, eta: Share = 1.0, table: Table = TABLE_1X,
) -> Job:  # fmt: skip
    """Stochastic Adams (Xue et al. 2023, algorithm 1): predictor and corrector through the last estimates.

    `order` and `corrector` are the numbers of estimates that each uses; 0 is no corrector. eta, the paper's tau, scales
    the noise and acts at the times from 20% to 80% of the table, as the authors advise.
    """
    steps = steps_of(sigmas)
    end, start = table.sigma(torch.tensor([0.2, 0.8], dtype=torch.float64) * len(table.sigmas)).tolist()
    values: list[Tensor] = []  # newest first
    places: list[float] = []
    mean_of: Callable[..., Tensor] | None = None
    added: Tensor | float = 0.0
    for i, (s, s1) in enumerate(steps):
        x0 = yield from begin_step(denoise, x, s, i, len(steps))
        if s1 == 0:
            return x0
        values, places = [x0, *values][: max(order, corrector)], [lam(s, path), *places][: max(order, corrector)]
        if mean_of is not None and corrector:
            x = mean_of(values[:corrector], places[:corrector]) + added
        tau = eta if end <= s1 <= start else 0.0
        mean_of = partial(_adams, x, s, s1, tau, path)
        added = _added(s, s1, lam(s1, path) - lam(s, path), tau**2, noise)
        x = mean_of(values[:order], places[:order]) + added
    return x


def _adams(
    x: Tensor, s: float, s1: float, tau: float, path: ForwardProcess, values: Sequence[Tensor], places: Sequence[float]
) -> Tensor:
    """Mean of x at s1 for the polynomial in log SNR through the given estimates (Xue et al. 2023, equation 15)."""
    start, end, rate = lam(s, path), lam(s1, path), 1 + tau**2
    weights = lagrange_integrals(places, start, end, lambda at: rate * np.exp(rate * (at - end)))
    return s1 / s * math.exp(-(tau**2) * (end - start)) * x + path.alpha(s1) * combine(weights, values)
