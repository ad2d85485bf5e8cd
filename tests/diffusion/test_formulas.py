"""Samplers that no library of the tests has, against their papers' formulas written down a second time, in float64."""

import math
from collections.abc import Callable
from itertools import count, pairwise

import numpy as np
import pytest
import torch

from sfumato.diffusion.driver import Step, drive
from sfumato.diffusion.guidance import network_guide
from sfumato.diffusion.noise_schedule import NoiseTable
from sfumato.diffusion.process import EXPLODING, FLOW
from sfumato.diffusion.sample import SAMPLERS
from sfumato.diffusion.sigma_schedules import karras_between
from sfumato.errors import SfumatoError
from sfumato.verify.toy import label

RATIOS = [12.0, 7.5, 4.0, 2.2, 1.3, 0.7, 0.45, 0.2, 0.08, 0.0]
Model = Callable[[torch.Tensor, float], torch.Tensor]


def sigmas_of(kind: str, ratios: list[float] = RATIOS) -> list[float]:
    """Noise levels with these ratios of noise to signal."""
    return [ratio / (1 + ratio) if kind == "flow" else ratio for ratio in ratios]


@pytest.fixture
def model(mixture) -> Callable[[str], Model]:
    """The toy's estimate, asked directly."""

    def make(kind: str) -> Model:
        denoiser = mixture(kind)
        return lambda x, s: denoiser(x, torch.tensor([s], dtype=torch.float64), label(1))

    return make


@pytest.fixture
def ours(mixture, outcomes, unit) -> Callable[..., torch.Tensor]:
    """What our sampler makes of it; the n-th noise it asks for is that of seed n."""

    def run(name: str, kind: str, sigmas: list[float], **options) -> torch.Tensor:
        denoiser, numbers = mixture(kind), count(1)
        sigmas = torch.tensor(sigmas, dtype=torch.float64)
        guide, x = network_guide(denoiser, label(1)), sigmas[0] * unit(0)
        job = SAMPLERS[name].run(guide, x, sigmas, denoiser.path, lambda s, s1: unit(next(numbers)), **options)
        result = outcomes([job])[0]
        if isinstance(result, Exception):
            raise result
        return result

    return run


@pytest.mark.parametrize("kind", ["eps", "flow"])
def test_ipndm(model, ours, unit, kind: str) -> None:
    """Zhang & Chen 2022, section 3.3."""
    sigmas, network = sigmas_of(kind), model(kind)
    x, slopes = sigmas[0] * unit(0), []
    for s, s1 in pairwise(sigmas):
        slopes.append((x - network(x, s)) / s)
        match slopes[-4:] if s1 else slopes[-1:]:
            case [a]:
                slope = a
            case [b, a]:
                slope = (3 * a - b) / 2
            case [c, b, a]:
                slope = (23 * a - 16 * b + 5 * c) / 12
            case [d, c, b, a]:
                slope = (55 * a - 59 * b + 37 * c - 9 * d) / 24
        x = x + (s1 - s) * slope
    assert torch.allclose(ours("ipndm", kind, sigmas), x, rtol=0, atol=1e-11)


@pytest.mark.parametrize("kind", ["eps", "flow"])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_res_multistep(model, ours, unit, kind: str, eta: float) -> None:
    """Zhang et al. 2023, the second-order tableau with phi functions; down and up as ComfyUI's ancestral kind."""
    sigmas, network, noise = sigmas_of(kind), model(kind), count(1)
    alpha = (FLOW if kind == "flow" else EXPLODING).alpha
    x, before, down_before, above = sigmas[0] * unit(0), None, None, None
    for s, s1 in pairwise(sigmas):
        x0 = network(x, s)
        ratio, ratio1 = s / alpha(s), s1 / alpha(s1)
        up = eta * ratio1 * math.sqrt(1 - ratio1**2 / ratio**2)
        ratio_down = math.sqrt(ratio1**2 - up**2)
        down = ratio_down / (1 + ratio_down) if kind == "flow" else ratio_down
        if down == 0:
            x = x0
        elif before is None:
            x = x + (down - s) * (x - x0) / s
        else:
            h = math.log(s / down)
            c2 = math.log(down_before / above) / h
            phi1 = math.expm1(-h) / -h
            phi2 = (phi1 - 1) / -h
            x = math.exp(-h) * x + h * ((phi1 - phi2 / c2) * x0 + phi2 / c2 * before)
        if up:
            x = alpha(s1) * (x / alpha(down) + up * unit(next(noise)))
        before, down_before, above = x0, down, s
    assert torch.allclose(ours("res_multistep", kind, sigmas, eta=eta), x, rtol=0, atol=1e-10)


PHIS = {"er": lambda x: x * (np.exp(x**0.3) + 10), "ode": lambda x: x, "reverse": lambda x: x**2}


@pytest.mark.parametrize("kind", ["eps", "flow"])
@pytest.mark.parametrize("variant", PHIS)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_er_sde(model, ours, unit, kind: str, variant: str, order: int) -> None:
    """Cui et al. 2023, algorithms 1 to 3, with integrals as midpoint sums; in y = x / alpha, where alpha is 1."""
    network, phi = model(kind), PHIS[variant]
    alpha = (FLOW if kind == "flow" else EXPLODING).alpha
    levels = dict(zip(RATIOS, sigmas_of(kind), strict=True))
    y, noise, estimates, slopes = levels[RATIOS[0]] * unit(0) / alpha(levels[RATIOS[0]]), count(1), [], []
    for i, (r, r1) in enumerate(pairwise(RATIOS)):
        estimates.append(network(alpha(levels[r]) * y, levels[r]))
        if r1 == 0:
            y = estimates[-1]
            break
        kept = phi(r1) / phi(r)
        y = kept * y + (1 - kept) * estimates[-1]
        points = r1 + (r - r1) * (np.arange(20_000) + 0.5) / 20_000
        weights = (r - r1) / 20_000 * phi(r1) / phi(points)
        if i >= 1:
            slopes.append((estimates[-1] - estimates[-2]) / (r - RATIOS[i - 1]))
        if i >= 1 and order >= 2:
            y = y + (r1 - r + weights.sum()) * slopes[-1]
        if i >= 2 and order >= 3:
            bend = (slopes[-1] - slopes[-2]) / ((r - RATIOS[i - 2]) / 2)
            y = y + ((r1 - r) ** 2 / 2 + (weights * (points - r)).sum()) * bend
        if variant != "ode":
            y = y + math.sqrt(r1**2 - r**2 * kept**2) * unit(next(noise))
    result = ours("er_sde", kind, list(levels.values()), order=order, variant=variant)
    assert torch.allclose(result, y, rtol=0, atol=1e-6)


def exponential_moments(rate: float, h: float, highest: int) -> list[float]:
    """Integrals from 0 to h of rate e^(rate (u - h)) u^k."""
    moments = [-math.expm1(-rate * h)]
    for k in range(1, highest + 1):
        moments.append(h**k - k / rate * moments[-1])
    return moments


def adams(x, s, s1, tau, alpha, levels, values):
    """One step of SA-Solver, with the Lagrange polynomial's coefficients from a Vandermonde matrix."""

    def log_snr(level: float) -> float:
        return math.log(alpha(level) / level)

    places = np.array([log_snr(level) - log_snr(s) for level in levels])
    h = log_snr(s1) - log_snr(s)
    moments = exponential_moments(1 + tau**2, h, len(places) - 1)
    weights = np.linalg.solve(np.vander(places, increasing=True).T, moments)
    mean = s1 / s * math.exp(-(tau**2) * h) * x
    return mean + alpha(s1) * sum(w * value for w, value in zip(weights, values, strict=True))


@pytest.mark.parametrize("kind", ["eps", "flow"])
@pytest.mark.parametrize(("order", "corrector", "eta"), [(3, 4, 1.0), (2, 0, 0.5), (1, 2, 1.0), (3, 3, 0.0)])
def test_sa_solver(model, ours, unit, kind: str, order: int, corrector: int, eta: float) -> None:
    """Xue et al. 2023, algorithm 1, with integrals in closed form."""
    sigmas, network = sigmas_of(kind), model(kind)
    alpha = (FLOW if kind == "flow" else EXPLODING).alpha
    x, noise, levels, values, step, added = sigmas[0] * unit(0), count(1), [], [], None, 0.0
    for s, s1 in pairwise(sigmas):
        levels, values = [s, *levels], [network(x, s), *values]
        if s1 == 0:
            x = values[0]
            break
        if step is not None and corrector:
            x = adams(*step, alpha, levels[:corrector], values[:corrector]) + added
        tau = eta if 0.1 < s1 < 0.81 else 0.0
        step, added = (x, s, s1, tau), 0.0
        if tau:
            h = math.log(s * alpha(s1) / (s1 * alpha(s)))
            added = s1 * math.sqrt(-math.expm1(-2 * tau**2 * h)) * unit(next(noise))
        x = adams(*step, alpha, levels[:order], values[:order]) + added
    table = NoiseTable(torch.tensor([0.1, 0.81], dtype=torch.float64)[[0, 0, 0, 1, 1]])
    result = ours("sa_solver", kind, sigmas, order=order, corrector=corrector, eta=eta, table=table)
    assert torch.allclose(result, x, rtol=0, atol=1e-9)


def levels_of(name: str, kind: str, sigmas: torch.Tensor, mixture, unit, **options) -> list[float]:
    """The noise levels of the steps that a sampler takes."""
    denoiser = mixture(kind)
    x, guide = sigmas[0] * unit(0), network_guide(denoiser, label(1))
    job = SAMPLERS[name].run(guide, x, sigmas, denoiser.path, lambda s, s1: unit(1), **options)
    return [event.sigma for _, event in drive([job]) if isinstance(event, Step)]


@pytest.mark.parametrize(("steps", "times", "length"), [(12, 0, 9), (20, 1, 9), (35, 1, 9), (40, 2, 10)])
def test_restart(model, ours, unit, mixture, steps: int, times: int, length: int) -> None:
    """Xu et al. 2023, algorithm 1, with the division of steps that A1111 made the community's."""
    network, noise = model("eps"), count(1)
    main = karras_between(0.03, 14.6, steps - times * length).tolist()
    plan = list(pairwise(main))
    if times:
        end, top = (min(range(len(main)), key=lambda i: abs(main[i] - level)) for level in (0.1, 2.0))
        again = karras_between(main[end], main[top], length + 1).tolist()[:-1]
        plan = plan[:end] + times * list(pairwise(again)) + plan[end:]
    x, level = main[0] * unit(0), main[0]
    for s, s1 in plan:
        if s > level:
            x = x + math.sqrt(s**2 - level**2) * unit(next(noise))
        slope = (x - network(x, s)) / s
        ahead = x + (s1 - s) * slope
        if s1 > 0:
            ahead = x + (s1 - s) * (slope + (ahead - network(ahead, s1)) / s1) / 2
        x, level = ahead, s1
    assert len(plan) == steps and next(noise) == 1 + times
    whole = karras_between(0.03, 14.6, steps)
    assert levels_of("restart", "eps", whole, mixture, unit) == pytest.approx([s for s, _ in plan], rel=1e-9)
    assert torch.allclose(ours("restart", "eps", whole.tolist()), x, rtol=0, atol=1e-8)


def test_restarts_rise_on_flows_by_their_ratio_of_noise_to_signal(mixture, unit) -> None:
    sigmas = torch.cat([torch.linspace(1, 0.01, 24, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)])
    levels = levels_of("restart", "flow", sigmas, mixture, unit, s_tmin=0.3, s_tmax=1.0)
    (rise,) = [i for i, (s, s1) in enumerate(pairwise(levels)) if s1 > s]
    assert levels[rise + 1] == pytest.approx(0.5, abs=0.05)
    assert len(levels) == 24


def test_without_room_there_is_no_restart(mixture, unit, ours) -> None:
    partial = torch.tensor([0.08, 0.04, 0.02, 0.0], dtype=torch.float64)  # begins below where restarts would
    assert levels_of("restart", "eps", partial, mixture, unit) == partial[:-1].tolist()
    with pytest.raises(SfumatoError, match="3 restarts of 9 steps need more than 9 steps"):
        ours("restart", "eps", sigmas_of("eps"), restarts=3)
