"""Samplers and guides that the reference data leave out, against diffusers on the exact toy."""

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, SASolverScheduler, UniPCMultistepScheduler
from diffusers.guiders import AdaptiveProjectedGuidance
from diffusers.guiders.adaptive_projected_guidance import MomentumBuffer

from sfumato.diffusion.driver import gather
from sfumato.diffusion.guidance import apg, constant_guide, dynamic_threshold, network_guide
from sfumato.diffusion.noise_schedule import NoiseTable
from sfumato.diffusion.process import EXPLODING
from sfumato.diffusion.sample import SAMPLERS
from sfumato.verify.toy import label, to_vp

NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("variant", ["bh1", "bh2"])
def test_unipc(mixture, unit, outcomes, variant: str, order: int) -> None:
    denoiser, start = mixture(), unit(0)
    scheduler = UniPCMultistepScheduler(solver_order=order, solver_type=variant, final_sigmas_type="sigma_min", **NOISE)
    scheduler.set_timesteps(9)
    sigmas = scheduler.sigmas.double()
    theirs = start
    for t, sigma in zip(scheduler.timesteps, sigmas[:-1], strict=True):
        toy_time = denoiser.table.time(sigma[None])
        eps = denoiser.network(theirs, toy_time, label(1))
        theirs = scheduler.step(eps, t, theirs).prev_sample
    x = start * (1 + sigmas[0] ** 2).sqrt()
    job = SAMPLERS["unipc"].run(
        network_guide(denoiser, label(1)), x, sigmas, denoiser.path, None, order=order, variant=variant
    )
    assert torch.allclose(to_vp(outcomes([job])[0], sigmas[-1].item()), theirs, atol=1e-4)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_sa_solver(mixture, unit, outcomes, monkeypatch, eta: float) -> None:
    """First order with first-order corrector; of second order diffusers' is an approximation of its own."""
    noises = iter(range(8))
    monkeypatch.setattr("diffusers.schedulers.scheduling_sasolver.randn_tensor", lambda *_, **__: unit(next(noises)))
    scheduler = SASolverScheduler(predictor_order=1, corrector_order=1, tau_func=lambda t: eta, **NOISE)
    scheduler.set_timesteps(8)
    denoiser, theirs, sigmas = mixture(), unit(9), scheduler.sigmas.double()
    for t, sigma in zip(scheduler.timesteps, sigmas[:-1], strict=True):
        eps = denoiser.network(theirs, denoiser.table.time(sigma[None]), label(1))
        theirs = scheduler.step(eps, t, theirs).prev_sample
    guide, x, levels = network_guide(denoiser, label(1)), unit(9) * (1 + sigmas[0] ** 2).sqrt(), sigmas.tolist()
    everywhere = NoiseTable(torch.logspace(-9, 9, 1000, dtype=torch.float64))
    job = SAMPLERS["sa_solver"].run(
        guide, x, sigmas, EXPLODING, lambda s, s1: unit(levels.index(s)),
        order=1, corrector=1, eta=eta, table=everywhere,
    )  # fmt: skip
    assert torch.allclose(to_vp(outcomes([job])[0], levels[-1]), theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("norm", [0.0, 2.5, 15.0])
def test_adaptive_projected_guidance(mixture, unit, outcomes, eta: float, norm: float) -> None:
    positive, negative = (network_guide(mixture(), label(k)) for k in (1, 0))
    theirs = AdaptiveProjectedGuidance(
        guidance_scale=6.5,  # in the paper's formulation one less than ours
        adaptive_projected_guidance_momentum=-0.5,
        adaptive_projected_guidance_rescale=norm,
        eta=eta,
        use_original_formulation=True,
    )
    theirs.momentum_buffer = MomentumBuffer(-0.5)
    guide, seen = apg(positive, negative, 7.5, eta, norm, -0.5), []

    def job():
        for k, sigma in enumerate((3.0, 1.5, 0.7)):
            x = unit(k)
            x0, p, n = yield from gather(guide(x, sigma), positive(x, sigma), negative(x, sigma))
            seen.append((x0, theirs(p, n).pred))
        return x0

    outcomes([job()])
    for ours, expected in seen:
        assert torch.allclose(ours, expected, atol=1e-12)


@pytest.mark.parametrize("spread", [0.3, 4.0])
def test_dynamic_thresholding(unit, outcomes, spread: float) -> None:
    scheduler = DPMSolverMultistepScheduler(thresholding=True, dynamic_thresholding_ratio=0.93, sample_max_value=1e9)
    x = spread * unit(0)

    def job():
        return (yield from dynamic_threshold(constant_guide(x), 0.93)(x, 1.0))

    assert torch.allclose(outcomes([job()])[0], scheduler._threshold_sample(x))
