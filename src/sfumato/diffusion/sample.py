"""Samplers: one generator per algorithm, over falling noise levels.

    sampler(denoise, x, sigmas, path, noise, ...) -> final x

`denoise` is a guide, x (1, C, h, w) the first latents at sigmas[0], `noise(sigma, sigma_next)` unit noise of x's
shape (k-diffusion's s_noise is `rng.scaled` around it). What follows are a sampler's own options. Every step is
reported as a `Step` once its estimate is known. In the coordinates of `path` all deterministic steps are the same for
every kind of network; alpha matters only where noise is added.

Symbols: s, s1 = current and next noise level; d = (x - x0) / s, the slope of the probability flow (Karras et al.
2022, equation 1); lam = log(alpha / sigma), half the log signal-to-noise ratio.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from sfumato.diffusion.drive import Job, Step
from sfumato.diffusion.guide import Guide
from sfumato.diffusion.path import Path
from sfumato.errors import SfumatoError

Noise = Callable[[float, float], Tensor]


def _towards(x: Tensor, x0: Tensor, s: float, s1: float) -> Tensor:
    """One Euler step along the flow: keep the share s1/s of the noise."""
    return x0 + (s1 / s) * (x - x0)


def _lam(s: float, path: Path) -> float:
    return math.log(path.alpha(s) / s)


def _steps(sigmas: Tensor) -> list[tuple[float, float]]:
    return list(pairwise(sigmas.tolist()))


def split_ancestral(s: float, s1: float, eta: float, path: Path) -> tuple[float, float, float]:
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


def churned(x: Tensor, s: float, rate: float, path: Path, noise: Noise) -> tuple[Tensor, float]:
    """x with its noise-to-signal ratio raised by the share `rate`, and its new noise level.

    Karras et al. 2022, algorithm 2, lines 4 to 6, written for any path; pure noise stays as it is.
    """
    alpha = path.alpha(s)
    if rate == 0 or alpha == 0:
        return x, s
    higher = path.sigma_at(s / alpha * (1 + rate))
    keep = path.alpha(higher) / alpha
    return keep * x + math.sqrt(higher**2 - (keep * s) ** 2) * noise(s, higher), higher


def _churn_rate(s: float, steps: int, s_churn: float, s_tmin: float, s_tmax: float) -> float:
    return min(s_churn / steps, math.sqrt(2) - 1) if s_tmin <= s <= s_tmax else 0.0


def euler(
    denoise: Guide,
    x: Tensor,
    sigmas: Tensor,
    path: Path,
    noise: Noise,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
) -> Job:
    """Euler's method on the probability flow; the same steps as DDIM with eta 0.

    s_churn > 0 adds noise before every step at a level within s_tmin .. s_tmax (Karras et al. 2022, section 4).
    """
    steps = _steps(sigmas)
    for i, (s, s1) in enumerate(steps):
        hat, s_hat = churned(x, s, _churn_rate(s, len(steps), s_churn, s_tmin, s_tmax), path, noise)
        x0 = yield from denoise(hat, s_hat)
        yield Step(i, len(steps), s_hat, hat, x0)
        x = _towards(hat, x0, s_hat, s1)
    return x


def euler_ancestral(denoise: Guide, x: Tensor, sigmas: Tensor, path: Path, noise: Noise, eta: float = 1.0) -> Job:
    """Euler's method past the next level, then noise up to it; the same steps as DDIM with that eta."""
    steps = _steps(sigmas)
    for i, (s, s1) in enumerate(steps):
        x0 = yield from denoise(x, s)
        yield Step(i, len(steps), s, x, x0)
        down, rescale, up = split_ancestral(s, s1, eta, path)
        x = _towards(x, x0, s, down)
        if up:
            x = rescale * x + up * noise(s, s1)
    return x


def ddim(denoise: Guide, x: Tensor, sigmas: Tensor, path: Path, noise: Noise, eta: float = 0.0) -> Job:
    """DDIM (Song et al. 2021, equation 12): deterministic at eta 0, ancestral at eta 1."""
    return euler_ancestral(denoise, x, sigmas, path, noise, eta)


def plms(denoise: Guide, x: Tensor, sigmas: Tensor, path: Path, noise: Noise) -> Job:
    """Pseudo linear multistep (Liu et al. 2022): Adams-Bashforth on the slope, begun by one improved Euler step."""
    steps, slopes = _steps(sigmas), []
    for i, (s, s1) in enumerate(steps):
        x0 = yield from denoise(x, s)
        yield Step(i, len(steps), s, x, x0)
        d = (x - x0) / s
        if not slopes and s1 > 0:
            ahead = x + (s1 - s) * d
            d_ahead = (ahead - (yield from denoise(ahead, s1))) / s1
            slope = (d + d_ahead) / 2
        else:
            coefficients = ((1,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
            known = [d, *slopes]
            slope = sum(c * k for c, k in zip(coefficients[len(known) - 1], known, strict=True))
        slopes = [d, *slopes][:3]
        x = x + (s1 - s) * slope
    return x


def heun(
    denoise: Guide,
    x: Tensor,
    sigmas: Tensor,
    path: Path,
    noise: Noise,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
) -> Job:
    """Heun's second-order method (Karras et al. 2022, algorithm 2; without churn 1): two estimates a step.

    The churn options are those of `euler`.
    """
    steps = _steps(sigmas)
    for i, (s, s1) in enumerate(steps):
        hat, s_hat = churned(x, s, _churn_rate(s, len(steps), s_churn, s_tmin, s_tmax), path, noise)
        x0 = yield from denoise(hat, s_hat)
        yield Step(i, len(steps), s_hat, hat, x0)
        ahead = _towards(hat, x0, s_hat, s1)
        if s1 > 0:
            slope = ((hat - x0) / s_hat + (ahead - (yield from denoise(ahead, s1))) / s1) / 2
            ahead = hat + (s1 - s_hat) * slope
        x = ahead
    return x


def dpmpp_2m(denoise: Guide, x: Tensor, sigmas: Tensor, path: Path, noise: Noise) -> Job:
    """DPM-Solver++(2M) (Lu et al. 2022b, algorithm 2): multistep in -log sigma on the estimate, one estimate a step."""
    steps, previous = _steps(sigmas), None
    for i, (s, s1) in enumerate(steps):
        x0 = yield from denoise(x, s)
        yield Step(i, len(steps), s, x, x0)
        estimate = x0
        if previous is not None and s1 > 0:
            before, x0_before = previous
            r = math.log(before / s) / math.log(s / s1)
            estimate = x0 + (x0 - x0_before) / (2 * r)
        previous = s, x0
        x = _towards(x, estimate, s, s1)
    return x


def dpmpp_2m_sde(
    denoise: Guide, x: Tensor, sigmas: Tensor, path: Path, noise: Noise, eta: float = 1.0, solver: str = "midpoint"
) -> Job:
    """DPM-Solver++(2M) for the stochastic equation (Lu et al. 2022b, section 5); solver is 'midpoint' or 'heun'."""
    steps, previous = _steps(sigmas), None
    for i, (s, s1) in enumerate(steps):
        x0 = yield from denoise(x, s)
        yield Step(i, len(steps), s, x, x0)
        if s1 == 0:
            x = x0
            continue
        h = _lam(s1, path) - _lam(s, path)
        total = h * (1 + eta)
        gain = -path.alpha(s1) * math.expm1(-total)
        x = s1 / s * math.exp(-eta * h) * x + gain * x0
        if previous is not None:
            h_before, x0_before = previous
            second = path.alpha(s1) * (math.expm1(-total) / total + 1) if solver == "heun" else gain / 2
            x = x + second * (h / h_before) * (x0 - x0_before)
        if eta:
            x = x + s1 * math.sqrt(-math.expm1(-2 * eta * h)) * noise(s, s1)
        previous = h, x0
    return x


def dpmpp_sde(
    denoise: Guide, x: Tensor, sigmas: Tensor, path: Path, noise: Noise, eta: float = 1.0, r: float = 0.5
) -> Job:
    """DPM-Solver++ single step for the stochastic equation (Lu et al. 2022b): two estimates a step, at s and between.

    r places the second estimate in log sigma.
    """
    steps = _steps(sigmas)
    for i, (s, s1) in enumerate(steps):
        x0 = yield from denoise(x, s)
        yield Step(i, len(steps), s, x, x0)
        if s1 == 0:
            x = x0
            continue
        middle = s ** (1 - r) * s1**r
        down, rescale, up = split_ancestral(s, middle, eta, path)
        between = rescale * _towards(x, x0, s, down) + up * noise(s, middle)
        x0_between = yield from denoise(between, middle)
        down, rescale, up = split_ancestral(s, s1, eta, path)
        weight = 1 / (2 * r)
        x = rescale * _towards(x, (1 - weight) * x0 + weight * x0_between, s, down) + up * noise(s, s1)
    return x


def lcm(denoise: Guide, x: Tensor, sigmas: Tensor, path: Path, noise: Noise) -> Job:
    """Latent consistency sampling (Luo et al. 2023, algorithm 1): trust every estimate, noise it to the next level."""
    steps = _steps(sigmas)
    for i, (s, s1) in enumerate(steps):
        x0 = yield from denoise(x, s)
        yield Step(i, len(steps), s, x, x0)
        x = path.alpha(s1) * x0 + s1 * noise(s, s1) if s1 > 0 else x0
    return x


@dataclass(frozen=True)
class Sampler:
    """A sampler as users choose it: `label` is the community's name, `calls` the estimates per step."""

    name: str
    label: str
    run: Callable[..., Job]
    calls: int = 1
    aliases: tuple[str, ...] = ()
    brownian: bool = False
    schedule: str = "discrete"
    unit_start: bool = False  # first latents of variance 1 + sigma^2, as the original code has them
    source: str = ""

    @property
    def options(self) -> dict[str, float | int | str]:
        """The settings that this sampler takes, with their defaults."""
        parameters = inspect.signature(self.run).parameters.values()
        return {p.name: p.default for p in parameters if p.default is not p.empty}


SAMPLERS: dict[str, Sampler] = {
    sampler.name: sampler
    for sampler in (
        Sampler("ddim", "DDIM", ddim, schedule="ddim_uniform", unit_start=True, source="arXiv:2010.02502"),
        Sampler("plms", "PLMS", plms, aliases=("pndm",), schedule="ddim_uniform", unit_start=True,
                source="arXiv:2202.09778"),
        Sampler("euler", "Euler", euler, aliases=("k_euler",), source="arXiv:2206.00364"),
        Sampler("euler_ancestral", "Euler a", euler_ancestral, aliases=("euler_a", "k_euler_a"),
                source="k-diffusion"),
        Sampler("heun", "Heun", heun, calls=2, aliases=("k_heun",), source="arXiv:2206.00364"),
        Sampler("dpmpp_2m", "DPM++ 2M", dpmpp_2m, aliases=("k_dpmpp_2m",), schedule="karras",
                source="arXiv:2211.01095"),
        Sampler("dpmpp_2m_sde", "DPM++ 2M SDE", dpmpp_2m_sde, aliases=("k_dpmpp_2m_sde",), brownian=True,
                schedule="karras", source="arXiv:2211.01095"),
        Sampler("dpmpp_sde", "DPM++ SDE", dpmpp_sde, calls=2, aliases=("k_dpmpp_sde",), brownian=True,
                schedule="karras", source="arXiv:2211.01095"),
        Sampler("lcm", "LCM", lcm, schedule="sgm_uniform", source="arXiv:2310.04378"),
    )
}  # fmt: skip


def find_sampler(name: str) -> Sampler:
    """A sampler by its name, its community label or an alias, in any spelling of case, spaces and dashes."""

    def plain(text: str) -> str:
        return text.lower().replace("++", "pp").replace(" ", "_").replace("-", "_")

    for sampler in SAMPLERS.values():
        if plain(name) in {plain(other) for other in (sampler.name, sampler.label, *sampler.aliases)}:
            return sampler
    raise SfumatoError(f"unknown sampler '{name}'; choose one of {', '.join(SAMPLERS)}")
