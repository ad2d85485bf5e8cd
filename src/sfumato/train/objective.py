"""The objective that all denoisers are trained by: targets, errors, weights and the distributions of times.

A network's output F stands for the picture x0 = c_skip x + c_out F(c_in x, t), see `diffusion.predict`. Training
regresses F to the output that stands for the true x0, (x0 - c_skip x) / c_out. That is each family's own target: the
noise (eps), alpha noise - sigma x0 (v), the picture (x0), noise - x0 (flow).

Letters: x0 (B, C, h, w) are clean latents, x the same at noise levels sigma (B,), which are float64 on the CPU.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sfumato.diffusion import predict
from sfumato.diffusion.cond import Cond
from sfumato.diffusion.driver import Denoiser
from sfumato.diffusion.process import per_row, process_for
from sfumato.seeding import stream
from sfumato.spec import Prediction

Times = Literal["uniform", "logit_normal"]


def residual(denoiser: Denoiser, x: Tensor, sigma: Tensor, cond: Cond, x0: Tensor) -> Tensor:
    """Returns F - (x0 - c_skip x) / c_out, of x's shape: the error of the network's output."""
    sigma = denoiser.level(sigma)
    return denoiser.output(x, sigma, cond) - predict.target(denoiser.prediction, x0, x, sigma)


def x0_error(denoiser: Denoiser, x: Tensor, sigma: Tensor, cond: Cond, x0: Tensor) -> Tensor:
    """Returns the estimate of x0 minus x0, of x's shape: `residual` times c_out."""
    _, _, c_out = predict.preconditioning(denoiser.prediction, denoiser.level(sigma))
    return per_row(c_out, x) * residual(denoiser, x, sigma, cond, x0)


def denoising_losses(denoiser: Denoiser, x0: Tensor, noise: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
    """Returns the mean square of `residual` of each row, (B,), with x0 noised to sigma.

    For eps it is equation 14 of Ho et al. 2020.
    """
    x = denoiser.path.noised(x0, noise, sigma)
    return residual(denoiser, x, sigma, cond, x0).square().flatten(1).mean(1)


def validation_errors(denoiser: Denoiser, x0: Tensor, cond: Cond, ratio: float) -> Tensor:
    """Returns squared errors of the estimate of x0, of x0's shape, at the level where noise is `ratio` times the
    signal.

    The noise depends on the ratio and on x0's shape alone, so figures can be compared between steps, networks and
    predictions.
    """
    noise = torch.from_numpy(stream(0, f"grid {ratio}", 0).standard_normal(tuple(x0.shape), np.float32)).to(x0)
    sigma = torch.full((len(x0),), denoiser.path.sigma_at(ratio), dtype=torch.float64)
    x = denoiser.path.noised(x0, noise, sigma)
    return (denoiser(x, sigma, cond).float() - x0).square()


def min_snr(kind: Prediction, sigma: Tensor, gamma: float) -> Tensor:
    """Returns the weights (B,) of `denoising_losses`: min(S, gamma) c_out^2 with S = (alpha / sigma)^2, or ones for
    gamma 0.

    Hang et al. 2023, section 3.4, weigh the error of x0 by min(S, gamma). An error of F is c_out times as large in x0:
    this gives their min(S, gamma) / S for eps and min(S, gamma) / (S + 1) for v, and the same idea for a flow.
    """
    if not gamma:
        return torch.ones_like(sigma)
    snr = (process_for(kind).alpha(sigma) / sigma) ** 2
    _, _, c_out = predict.preconditioning(kind, sigma)
    return snr.clamp(max=gamma) * c_out**2


def pseudo_huber(error: Tensor, width: float = 0.00054) -> Tensor:
    """Returns sqrt(|e|^2 + c^2) - c of each row, (B,), for errors (B, ...) with d values in a row and c = `width`
    sqrt(d).

    It is Song & Dhariwal 2024, section 3.3, divided by sqrt(d). That is about the root mean square, so rows that cannot
    be estimated well do not outweigh the others.
    """
    mean = error.flatten(1).square().mean(1)
    return (mean + width**2).sqrt() - width


def stratified(rng: np.random.Generator, count: int) -> Tensor:
    """Returns numbers (count,) in [0, 1), float64: one from every interval of length 1/count, in random order.

    So every batch sees all noise levels (Kingma et al. 2021, appendix I.1).
    """
    return torch.from_numpy((rng.permutation(count) + rng.random(count)) / count)


def times(kind: Times, u: Tensor, shift: float = 0.0, scale: float = 1.0) -> Tensor:
    """Returns times (B,) in (0, 1), sigmoid(shift + scale z), from uniform numbers u (B,).

    "logit_normal" takes z from the normal distribution (Esser et al. 2024, equation 19, with m and s); "uniform" takes
    it from the logistic one, so that times are uniform for shift 0 and scale 1.
    """
    u = u.clamp(1e-6, 1 - 1e-6)
    z = torch.special.ndtri(u) if kind == "logit_normal" else torch.logit(u)
    return torch.sigmoid(shift + scale * z)


def whole_steps(time: Tensor, steps: int) -> Tensor:
    """Returns the training steps, 0 .. steps - 1 (B,), int64, that times (B,) in [0, 1] fall into."""
    return (time * steps).long().clamp(max=steps - 1)


def geometric_mean(values: list[float]) -> float:
    """Returns the geometric mean, in which errors of very different sizes count the same."""
    return math.exp(sum(map(math.log, values)) / len(values))
