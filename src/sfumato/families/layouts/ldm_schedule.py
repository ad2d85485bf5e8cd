"""The noise schedule as the originals' code stores it beside the networks, in float32."""

from __future__ import annotations

import torch
from torch import Tensor

from sfumato.diffusion.noise_schedule import alphas_cumprod, betas
from sfumato.spec import NoiseSchedule

# Files of training runs also hold weights of the loss by step, which depend on more than the schedule.
NAMES = (
    r"(betas|alphas_cumprod|alphas_cumprod_prev|sqrt_alphas_cumprod|sqrt_one_minus_alphas_cumprod"
    r"|log_one_minus_alphas_cumprod|sqrt_recip_alphas_cumprod|sqrt_recipm1_alphas_cumprod|posterior_variance"
    r"|posterior_log_variance_clipped|posterior_mean_coef1|posterior_mean_coef2|lvlb_weights|logvar|denoiser\.sigmas)"
)
LOW_SCALE = r"low_scale_model\."  # what the upscaler's small picture is noised by


def ddpm_buffers(noise: NoiseSchedule) -> dict[str, Tensor]:
    """What 1.x and 2.x keep: abar and functions of it by training step (T,), and the posterior of a step back.

    Ho et al. 2020, equations 4, 6 and 7. The first step's posterior has no variance; its logarithm is cut at 1e-20.
    """
    abar = alphas_cumprod(noise)
    before = torch.cat([torch.ones(1, dtype=abar.dtype), abar[:-1]])
    alpha = abar / before if noise.zero_terminal_snr else 1 - betas(noise)
    beta = 1 - alpha
    variance = beta * (1 - before) / (1 - abar)
    exact = {
        "betas": beta,
        "alphas_cumprod": abar,
        "alphas_cumprod_prev": before,
        "sqrt_alphas_cumprod": abar.sqrt(),
        "sqrt_one_minus_alphas_cumprod": (1 - abar).sqrt(),
        "log_one_minus_alphas_cumprod": (1 - abar).log(),
        "sqrt_recip_alphas_cumprod": (1 / abar).sqrt(),
        "sqrt_recipm1_alphas_cumprod": (1 / abar - 1).sqrt(),
        "posterior_variance": variance,
        "posterior_log_variance_clipped": variance.clamp(min=1e-20).log(),
        "posterior_mean_coef1": beta * before.sqrt() / (1 - abar),
        "posterior_mean_coef2": (1 - before) * alpha.sqrt() / (1 - abar),
    }
    return {name: tensor.float() for name, tensor in exact.items()}


def low_scale_buffers(noise: NoiseSchedule | None) -> dict[str, Tensor]:
    """What the upscaler keeps of the noise on its small picture: the same, without the posterior."""
    kept = {} if noise is None else ddpm_buffers(noise)
    return {f"low_scale_model.{name}": tensor for name, tensor in kept.items() if not name.startswith("posterior")}
