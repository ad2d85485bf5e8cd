"""Samplers whose variants the reference data leave out, against diffusers on the exact toy."""

import pytest
import torch
from diffusers import UniPCMultistepScheduler

from sfumato.diffusion.guide import plain
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
    job = SAMPLERS["unipc"].run(plain(denoiser, label(1)), x, sigmas, denoiser.path, None, order=order, variant=variant)
    assert torch.allclose(to_vp(outcomes([job])[0], sigmas[-1].item()), theirs, atol=1e-4)
