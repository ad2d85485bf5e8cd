"""Samplers on data whose flow is known in closed form: order of convergence, and the distribution of what they draw."""

import inspect
import math
from itertools import pairwise

import pytest
import torch

from sfumato.diffusion.driver import Step, drive
from sfumato.diffusion.guidance import Guidance, cfg, network_guide
from sfumato.diffusion.process import EXPLODING, FLOW, ForwardProcess
from sfumato.diffusion.rng import BrownianPath, NoiseStream
from sfumato.diffusion.sample import SAMPLERS, find_sampler
from sfumato.diffusion.sampler_names import SAMPLER_NAMES
from sfumato.diffusion.samplers.common import churned, split_ancestral
from sfumato.diffusion.samplers.onestep import cfg_pp
from sfumato.errors import SfumatoError
from sfumato.verify.toy import label

HIGH, LOW = 8.0, 0.2  # where the flow of N(.3, .5^2) bends


def levels(kind: str, n: int) -> torch.Tensor:
    """n steps, even in log sigma, between levels above zero; for flows the same ratios of noise to signal."""
    sigmas = torch.linspace(math.log(HIGH), math.log(LOW), n + 1, dtype=torch.float64).exp()
    return sigmas / (1 + sigmas) if kind == "flow" else sigmas


NEVER_DETERMINISTIC = ("ddpm", "lcm")
OWN_STEPS = ("dpm_adaptive",)
DETERMINISTIC = [name for name in SAMPLERS if name not in (*NEVER_DETERMINISTIC, *OWN_STEPS)]
WITHOUT_NOISE = {"eta": 0.0, "restarts": 0, "variant": "ode"}


def never(s: float, s1: float) -> torch.Tensor:
    raise AssertionError("noise was asked for")


def flow_error(gaussian, unit, outcomes, name: str, kind: str, n: int, **options: float) -> float:
    """How far the sampler, without noise, ends from where the probability flow leads."""
    sigmas, denoiser = levels(kind, n), gaussian.denoiser(kind)
    if SAMPLERS[name].kind != "ODE":
        options |= {option: value for option, value in WITHOUT_NOISE.items() if option in SAMPLERS[name].options}
    x = gaussian.moments(sigmas[0].item(), kind)[1] * unit(0)
    result = outcomes(
        [SAMPLERS[name].run(network_guide(denoiser, label(1)), x, sigmas, denoiser.path, never, **options)]
    )[0]
    return (result - gaussian.flow(x, sigmas[0].item(), sigmas[-1].item(), kind)).abs().max().item()


@pytest.mark.parametrize("kind", ["eps", "flow"])
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_order_of_convergence(gaussian, unit, outcomes, name: str, kind: str) -> None:
    coarse, fine = (flow_error(gaussian, unit, outcomes, name, kind, n) for n in (60, 120))
    assert math.log2(coarse / fine) > SAMPLERS[name].order - 0.25, (coarse, fine)


@pytest.mark.parametrize("variant", ["bh1", "bh2"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_unipc_converges_in_every_order_and_variant(gaussian, unit, outcomes, order: int, variant: str) -> None:
    coarse, fine = (
        flow_error(gaussian, unit, outcomes, "unipc", "eps", n, order=order, variant=variant) for n in (60, 120)
    )
    assert math.log2(coarse / fine) > 1.75, (coarse, fine)


@pytest.mark.parametrize("name", SAMPLERS)
def test_what_the_network_predicts_makes_no_difference(mixture, unit, outcomes, name: str) -> None:
    """A v model and an eps model of the same data draw the same, with the same noise."""
    sigmas = torch.tensor([9.0, 4.0, 2.0, 1.0, 0.3, 0.1, 0.0], dtype=torch.float64)
    results = []
    for denoiser in (mixture("eps"), mixture("v")):
        job = SAMPLERS[name].run(
            network_guide(denoiser, label(1)), 9 * unit(0), sigmas, EXPLODING, lambda s, s1: unit(int(1e6 * s1))
        )
        results.append(outcomes([job])[0])
    assert torch.allclose(*results, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ["eps", "flow"])
def test_adaptive_steps_honour_their_tolerance(gaussian, unit, outcomes, kind: str) -> None:
    loose, tight = (
        flow_error(gaussian, unit, outcomes, "dpm_adaptive", kind, 10, rtol=rtol, atol=rtol / 10)
        for rtol in (0.05, 0.0005)
    )
    assert loose < 0.2 and tight < 0.01 * max(1, loose / 0.05)


STOCHASTIC = ["ddim", *(name for name, sampler in SAMPLERS.items() if sampler.kind != "ODE" and name != "tcd")]


@pytest.mark.parametrize("kind", ["eps", "flow"])
@pytest.mark.parametrize("name", STOCHASTIC)
def test_what_is_drawn_has_the_datas_mean_and_spread(gaussian, outcomes, name: str, kind: str) -> None:
    shape = (1, 4, 32, 32)
    denoiser = gaussian.denoiser(kind, shape[1:])
    sampler, stream = SAMPLERS[name], NoiseStream(0, shape)
    start = 40.0 if kind == "eps" else 1.0
    low = 0.02 if kind == "eps" else 0.02 / 1.02
    ratios = (torch.linspace(math.log(60.0), math.log(0.02), 60, dtype=torch.float64)).exp()
    sigmas = torch.cat([ratios if kind == "eps" else ratios / (1 + ratios), torch.zeros(1, dtype=torch.float64)])
    sigmas[0], sigmas[-2] = start if kind == "flow" else sigmas[0], low
    noise = BrownianPath(stream) if sampler.brownian else stream
    options = {"eta": 1.0} if "eta" in sampler.options else {}
    x = sigmas[0].item() * stream.normal().double()
    result = outcomes([sampler.run(network_guide(denoiser, label(1)), x, sigmas, denoiser.path, noise, **options)])[0]
    assert result.mean().item() == pytest.approx(gaussian.mean, abs=0.04)
    # A consistency sampler trusts each estimate wholly: exact posterior means make it draw too narrow.
    if name != "lcm":
        assert result.std().item() == pytest.approx(gaussian.std, abs=0.04)


# Of the multistep pair on eps only: on flows one extrapolates in log SNR, the other in log sigma.
@pytest.mark.parametrize(
    ("stochastic", "deterministic", "kind"),
    [
        ("euler_ancestral", "euler", "eps"),
        ("euler_ancestral", "euler", "flow"),
        ("ddim", "euler", "eps"),
        ("tcd", "euler", "flow"),
        ("dpm_2_ancestral", "dpm_2", "flow"),
        ("dpmpp_2m_sde", "dpmpp_2m", "eps"),
        ("dpmpp_2m_sde_heun", "res_multistep", "eps"),
        ("res_multistep_ancestral", "res_multistep", "flow"),
    ],
)
def test_without_eta_nothing_is_random(mixture, unit, outcomes, stochastic: str, deterministic: str, kind: str) -> None:
    denoiser, sigmas = mixture(kind), levels(kind, 12)
    x, guide = sigmas[0] * unit(3), network_guide(denoiser, label(1))
    a = outcomes([SAMPLERS[stochastic].run(guide, x, sigmas, denoiser.path, never, eta=0.0)])[0]
    b = outcomes([SAMPLERS[deterministic].run(guide, x, sigmas, denoiser.path, never)])[0]
    assert torch.allclose(a, b, atol=1e-10)


@pytest.mark.parametrize("path", [EXPLODING, FLOW])
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_an_ancestral_step_keeps_the_level(path, eta: float) -> None:
    """Down and up again: signal and noise add up to those of the next level."""
    s, s1 = 0.9, 0.35
    down, rescale, up = split_ancestral(s, s1, eta, path)
    assert rescale * path.alpha(down) == pytest.approx(path.alpha(s1))
    assert (rescale * down) ** 2 + up**2 == pytest.approx(s1**2)
    assert (up == 0) == (eta == 0)


@pytest.mark.parametrize("path", [EXPLODING, FLOW])
def test_churn_raises_the_level_and_keeps_the_picture(path) -> None:
    x0, n, more = torch.tensor([2.0]), torch.tensor([1.0]), torch.tensor([0.5])
    s = 0.6
    x, higher = churned(path.alpha(s) * x0 + s * n, s, 0.3, path, lambda a, b: more)
    assert higher / path.alpha(higher) == pytest.approx(1.3 * s / path.alpha(s))
    keep = path.alpha(higher) / path.alpha(s)
    assert x.item() == pytest.approx(path.alpha(higher) * 2 + keep * s + 0.5 * (higher**2 - (keep * s) ** 2) ** 0.5)
    assert churned(x, s, 0.0, path, None) == (x, s)
    assert churned(x, 1.0, 0.3, FLOW, None) == (x, 1.0)


@pytest.mark.parametrize("name", ["euler", "heun"])
def test_churn_stays_within_its_range(gaussian, unit, outcomes, name: str) -> None:
    denoiser, sigmas = gaussian.denoiser(), levels("eps", 20)
    drawn: list[float] = []

    def noise(s: float, s1: float) -> torch.Tensor:
        drawn.append(s)
        return unit(len(drawn))

    guide = network_guide(denoiser, label(1))
    outcomes([SAMPLERS[name].run(guide, HIGH * unit(0), sigmas, EXPLODING, noise, s_churn=5.0, s_tmin=0.5, s_tmax=4.0)])
    assert drawn == [s for s in sigmas[:-1].tolist() if 0.5 <= s <= 4.0]


def test_options_are_those_of_the_function() -> None:
    defaults = {name: {one.name: one.default for one in sampler.options.values()} for name, sampler in SAMPLERS.items()}
    assert defaults["euler"] == {"s_churn": 0.0, "s_tmin": 0.0, "s_tmax": math.inf, "s_noise": 1.0}
    assert defaults["ddim"] == {"eta": 0.0, "s_noise": 1.0}
    assert defaults["unipc_bh2"] == {"order": 2, "variant": "bh2"}
    assert defaults["dpmpp_2m"] == {}


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_ends_of_every_option_draw(gaussian, outcomes, name: str) -> None:
    """Whatever an option allows, it works."""
    sampler, denoiser, shape = SAMPLERS[name], gaussian.denoiser("flow"), (1, 4, 8, 8)
    sigmas = torch.cat([torch.linspace(1, 0.02, 8, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)])
    for option in sampler.options.values():
        words = isinstance(option.allowed, tuple)
        for value in option.allowed if words else (option.allowed.low, option.allowed.high):
            if (option.name, value) in (("restarts", 100), ("atol", 1e-6), ("rtol", 1e-6)):
                continue  # more steps than there are, or than a test has time for
            stream = NoiseStream(0, shape)
            options = {option.name: type(option.default)(value)}
            guidance = Guidance(lambda: network_guide(denoiser, label(1)))
            job = sampler.job(guidance, stream.normal().double(), sigmas, FLOW, stream, denoiser.table, options)
            result = outcomes([job])[0]
            assert torch.is_tensor(result) and result.isfinite().all(), (options, result)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_says_what_it_is(name: str) -> None:
    sampler = SAMPLERS[name]
    assert sampler.name == name and sampler.source
    assert inspect.getdoc(sampler.run)
    others = SAMPLER_NAMES[name].aliases
    for spelling in (name, name.upper(), sampler.label, sampler.label.lower().replace(" ", "-"), *others):
        assert find_sampler(spelling) is sampler


def test_an_unknown_sampler_is_refused_with_the_choice() -> None:
    with pytest.raises(SfumatoError, match=r"unknown sampler 'magic'; `sfumato samplers` lists them all"):
        find_sampler("magic")


@pytest.mark.parametrize("name", SAMPLERS)
def test_one_step_is_enough_for_any_sampler(gaussian, outcomes, name: str) -> None:
    stream = NoiseStream(0, (1, 4, 8, 8))
    denoiser = gaussian.denoiser()
    sigmas = torch.tensor([10.0, 0.0], dtype=torch.float64)
    x = 10 * stream.normal().double()
    result = outcomes([SAMPLERS[name].run(network_guide(denoiser, label(1)), x, sigmas, EXPLODING, stream)])[0]
    assert torch.is_tensor(result) and result.isfinite().all(), result


def unconditionally(x: torch.Tensor, x0: torch.Tensor, away: torch.Tensor, s: float, s1: float, path: ForwardProcess):
    """A step of CFG++ written out: the guided estimate at the next level, with the unconditional noise."""
    return path.alpha(s1) * x0 + s1 * (x - path.alpha(s) * away) / s


@pytest.mark.parametrize("kind", ["eps", "v", "flow"])
@pytest.mark.parametrize("name", ["euler", "ddim"])
def test_cfg_pp_keeps_the_unconditional_noise(mixture, unit, outcomes, kind: str, name: str) -> None:
    denoiser, sigmas = mixture(kind), levels(kind, 6)
    positive, negative = (network_guide(denoiser, label(k)) for k in (1, 0))
    start = sigmas[0] * unit(3)
    run = cfg_pp(SAMPLERS[name].run, negative)
    ours = outcomes([run(cfg(positive, negative, 0.6), start, sigmas, denoiser.path, None)])[0]
    x = start
    for s, s1 in pairwise(sigmas.tolist()):
        p, n = (denoiser(x, torch.tensor([s]).double(), label(k)) for k in (1, 0))
        x = unconditionally(x, n + 0.6 * (p - n), n, s, s1, denoiser.path)
    assert torch.allclose(ours, x)
    without = outcomes([SAMPLERS[name].run(cfg(positive, negative, 0.6), start, sigmas, denoiser.path, None)])[0]
    assert not torch.allclose(ours, without, atol=1e-3)


@pytest.mark.parametrize("kind", ["eps", "flow"])
def test_cfg_pp_of_ancestral_steps(mixture, unit, outcomes, kind: str) -> None:
    """As ComfyUI's euler_ancestral_cfg_pp: down in the noise-to-signal ratio, unconditional noise, then fresh noise."""
    denoiser, sigmas = mixture(kind), levels(kind, 5)
    positive, negative = (network_guide(denoiser, label(k)) for k in (1, 0))
    path, fresh, start = denoiser.path, unit(7), sigmas[0] * unit(3)
    run = cfg_pp(SAMPLERS["euler_ancestral"].run, negative)
    ours = outcomes([run(cfg(positive, negative, 1.4), start, sigmas, path, lambda s, s1: fresh)])[0]
    x = start
    for s, s1 in pairwise(sigmas.tolist()):
        p, n = (denoiser(x, torch.tensor([s]).double(), label(k)) for k in (1, 0))
        x0, noise = n + 1.4 * (p - n), (x - path.alpha(s) * n) / s
        alpha, ratio, ratio1 = path.alpha(s1), s / max(path.alpha(s), 1e-12), s1 / path.alpha(s1)
        up = min(ratio1, (ratio1**2 * (ratio**2 - ratio1**2) / ratio**2) ** 0.5)
        x = alpha * x0 + alpha * (ratio1**2 - up**2) ** 0.5 * noise + alpha * up * fresh
    assert torch.allclose(ours, x)


@pytest.mark.parametrize("name", [name for name, sampler in SAMPLERS.items() if sampler.cfg_pp])
def test_cfg_pp_without_guidance_is_the_sampler_itself(mixture, unit, outcomes, name: str) -> None:
    denoiser, sigmas = mixture(), levels("eps", 6)
    guide = network_guide(denoiser, label(0))

    def job(run):
        return run(guide, sigmas[0] * unit(3), sigmas, denoiser.path, lambda s, s1: unit(9))

    run = SAMPLERS[name].run
    plainly, paired = outcomes([job(run), job(cfg_pp(run, guide))]).values()
    assert torch.allclose(plainly, paired)
    steps = [event for _, event in drive([job(cfg_pp(run, guide))]) if isinstance(event, Step)]
    assert [(step.index, step.total) for step in steps] == [(i, 6) for i in range(6)]
