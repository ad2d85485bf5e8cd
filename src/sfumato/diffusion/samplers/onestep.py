"""Samplers of one estimate a step and no memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from sfumato.diffusion.driver import Job, gather, with_steps
from sfumato.diffusion.guidance import Guide, constant_guide
from sfumato.diffusion.noise_schedule import TABLE_1X, Table
from sfumato.diffusion.options import NotNegative, Share
from sfumato.diffusion.process import ForwardProcess
from sfumato.diffusion.samplers.common import Noise, begin_step, churn_rate, churned, split_ancestral, steps_of, towards


def euler(
    denoise: Guide, x: Tensor, sigmas: Tensor, path: ForwardProcess, noise: Noise, s_churn: NotNegative = 0.0,
    s_tmin: NotNegative = 0.0, s_tmax: NotNegative = math.inf,
) -> Job:  # fmt: skip
    """Euler's method on the probability flow; the same steps as DDIM with eta 0.

    s_churn > 0 adds noise before every step at a level within s_tmin .. s_tmax (Karras et al. 2022, section 4).
    """
    steps = steps_of(sigmas)
    for i, (s, s1) in enumerate(steps):
        hat, s_hat = churned(x, s, churn_rate(s, len(steps), s_churn, s_tmin, s_tmax), path, noise)
        x0 = yield from begin_step(denoise, hat, s_hat, i, len(steps))
        x = towards(hat, x0, s_hat, s1)
    return x


def euler_ancestral(
    denoise: Guide, x: Tensor, sigmas: Tensor, path: ForwardProcess, noise: Noise, eta: Share = 1.0
) -> Job:
    """Euler's method past the next level, then noise up to it; the same steps as DDIM with that eta."""
    steps = steps_of(sigmas)
    for i, (s, s1) in enumerate(steps):
        x0 = yield from begin_step(denoise, x, s, i, len(steps))
        down, rescale, up = split_ancestral(s, s1, eta, path)
        x = towards(x, x0, s, down)
        if up:
            x = rescale * x + up * noise(s, s1)
    return x


def ddim(denoise: Guide, x: Tensor, sigmas: Tensor, path: ForwardProcess, noise: Noise, eta: Share = 0.0) -> Job:
    """DDIM (Song et al. 2021, equation 12): deterministic at eta 0, ancestral at eta 1."""
    return euler_ancestral(denoise, x, sigmas, path, noise, eta)


def ddpm(denoise: Guide, x: Tensor, sigmas: Tensor, path: ForwardProcess, noise: Noise) -> Job:
    """Ancestral sampling (Ho et al. 2020, algorithm 2) with the smaller of its two variances: DDIM with eta 1."""
    return euler_ancestral(denoise, x, sigmas, path, noise, 1.0)


def lcm(denoise: Guide, x: Tensor, sigmas: Tensor, path: ForwardProcess, noise: Noise) -> Job:
    """Latent consistency sampling (Luo et al. 2023, algorithm 1): trust every estimate, noise it to the next level."""
    steps = steps_of(sigmas)
    for i, (s, s1) in enumerate(steps):
        x0 = yield from begin_step(denoise, x, s, i, len(steps))
        x = path.alpha(s1) * x0 + s1 * noise(s, s1) if s1 > 0 else x0
    return x


def tcd(
    denoise: Guide, x: Tensor, sigmas: Tensor, path: ForwardProcess, noise: Noise, eta: Share = 0.3,
    table: Table = TABLE_1X,
) -> Job:  # fmt: skip
    """Trajectory consistency sampling (Zheng et al. 2024, algorithm 4): past the next time by a share, then noise.

    The share eta (the paper's gamma) is one of the time in training steps, hence the table; the last step adds none.
    """
    steps = steps_of(sigmas)
    for i, (s, s1) in enumerate(steps):
        x0 = yield from begin_step(denoise, x, s, i, len(steps))
        down = s1
        if eta > 0 and s1 > 0 and i + 1 < len(steps):
            time = ((1 - eta) * table.time(torch.tensor([s1]).double())).floor()
            down = min(s1, table.sigma(time).item())
        x = towards(x, x0, s, down)
        if down < s1:
            rescale = path.alpha(s1) / path.alpha(down)
            x = rescale * x + math.sqrt(s1**2 - (rescale * down) ** 2) * noise(s, s1)
    return x


def cfg_pp(run: Callable[..., Job], unconditional: Guide) -> Callable[..., Job]:
    """A sampler of this file with CFG++ (Chung et al. 2024, algorithm 2): the noise that a step keeps is unconditional.

    x1 = alpha1 x0 + sigma1 n, with x0 the guided estimate and n = (x - alpha x0_u) / sigma of the unconditional one. It
    is the sampler's own step from alpha x0 + sigma n, the x at which the guided estimate leaves that noise. Each step
    runs by itself, so what a sampler remembers or divides among its steps, such as churn, is lost.
    """

    def sampler(denoise: Guide, x: Tensor, sigmas: Tensor, path: ForwardProcess, noise: Noise, **options: float) -> Job:
        for i, (s, _) in enumerate(steps_of(sigmas)):
            x0, away = yield from gather(denoise(x, s), unconditional(x, s))
            x = x + path.alpha(s) * (x0 - away)
            step = run(constant_guide(x0), x, sigmas[i : i + 2], path, noise, **options)
            x = yield from with_steps(step, partial(replace, index=i, total=len(sigmas) - 1))
        return x

    return sampler
