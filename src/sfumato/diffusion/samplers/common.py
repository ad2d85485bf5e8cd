"""The moves that samplers are made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from sfumato.diffusion.driver import Row, Step
from sfumato.diffusion.guidance import Guide
from sfumato.diffusion.process import ForwardProcess

Noise = Callable[[float, float], Tensor]

# Pure noise of a flow has no signal-to-noise ratio; with this much signal instead, steps from it reach their limits.
_LEAST_ALPHA = 1e-12
_ABSCISSAE, _WEIGHTS = np.polynomial.legendre.leggauss(32)


def steps_of(sigmas: Tensor) -> list[tuple[float, float]]:
    """(s, s1) of every step."""
    return list(pairwise(sigmas.tolist()))


def begin_step(
    denoise: Guide, x: Tensor, s: float, i: int, steps: int
) -> Generator[list[Row] | Step, list[Tensor], Tensor]:
    """Asks for the estimate x0 at x (1, C, h, w) of noise level s, and reports step `i` of `steps`; returns x0."""
    x0 = yield from denoise(x, s)
    yield Step(i, steps, s, x, x0)
    return x0


def towards(x: Tensor, x0: Tensor, s: float, s1: float) -> Tensor:
    """One Euler step along the flow: keep the share s1/s of the noise."""
    return x0 + (s1 / s) * (x - x0)


def lam(s: float, path: ForwardProcess) -> float:
    """Half the log signal-to-noise ratio of a noise level above 0."""
    return math.log(max(path.alpha(s), _LEAST_ALPHA) / s)


def split_ancestral(s: float, s1: float, eta: float, path: ForwardProcess) -> tuple[float, float, float]:
    """(sigma_down, rescale, sigma_up) of an ancestral step: go to sigma_down, multiply by rescale, add sigma_up noise.

    Song et al. 2021 (DDIM), equation 16, written for any path; eta scales the noise, 1 is the full posterior.
    """
    if s1 == 0:
        return 0.0, 1.0, 0.0
    alpha, alpha1 = path.alpha(s), path.alpha(s1)
    shrink = 1 - (s1 * alpha / (s * alpha1)) ** 2
    up = min(1.0, eta * math.sqrt(shrink))  # noise added, as a share of s1
    ratio = s1 / alpha1 * math.sqrt(1 - up**2)  # sigma_down / alpha_down
    down = path.sigma_at(ratio)
    return down, alpha1 / path.alpha(down), s1 * up


def churned(x: Tensor, s: float, rate: float, path: ForwardProcess, noise: Noise) -> tuple[Tensor, float]:
    """x with its noise-to-signal ratio raised by the share `rate`, and its new noise level.

    Karras et al. 2022, algorithm 2, lines 4 to 6, written for any path; pure noise stays as it is.
    """
    alpha = path.alpha(s)
    if rate == 0 or alpha == 0:
        return x, s
    higher = path.sigma_at(s / alpha * (1 + rate))
    return raised(x, s, higher, path, noise), higher


def raised(x: Tensor, s: float, higher: float, path: ForwardProcess, noise: Noise) -> Tensor:
    """x of level s with noise added up to a higher level; s has some signal left."""
    keep = path.alpha(higher) / path.alpha(s)
    return keep * x + math.sqrt(higher**2 - (keep * s) ** 2) * noise(s, higher)


def churn_rate(s: float, steps: int, s_churn: float, s_tmin: float, s_tmax: float) -> float:
    """The share of a step at level s (Karras et al. 2022, algorithm 2, line 4)."""
    return min(s_churn / steps, math.sqrt(2) - 1) if s_tmin <= s <= s_tmax else 0.0


def order_at(step: int, steps: int, order: int) -> int:
    """Order of a step of a multistep method: as much as is known by then; of short runs the last steps are careful.

    The rule of the original DPM-Solver code ("lower order final", below 15 steps).
    """
    return min(order, step + 1, steps - step if steps < 15 else order)


def lagrange_integrals(
    nodes: Sequence[float], start: float, end: float, density: Callable[[np.ndarray], np.ndarray] = np.ones_like
) -> list[float]:
    """Integrals from start to end of each Lagrange basis polynomial of the nodes, times a density.

    By Gauss-Legendre quadrature: exact for polynomials, to rounding for the smooth densities of samplers.
    """

    def weighted(points: np.ndarray, j: int) -> np.ndarray:
        others = [other for k, other in enumerate(nodes) if k != j]
        return density(points) * np.prod([(points - other) / (nodes[j] - other) for other in others], axis=0)

    return [integral(partial(weighted, j=j), start, end) for j in range(len(nodes))]


def integral(of: Callable[[np.ndarray], np.ndarray], start: float, end: float) -> float:
    """The integral of a smooth function from start to end."""
    half = (end - start) / 2
    return float(half * (_WEIGHTS * of(start + half * (1 + _ABSCISSAE))).sum())


def combine(weights: Sequence[float], tensors: Sequence[Tensor]) -> Tensor:
    """The weighted sum; the sequences are of one length."""
    return torch.stack([w * tensor for w, tensor in zip(weights, tensors, strict=True)]).sum(0)
