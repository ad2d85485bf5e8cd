"""ComfyUI's names of samplers and of lists of noise levels, as its nodes offer them."""

from __future__ import annotations

from sfumato.diffusion.sampler_names import HINTS, split_sampler_name
from sfumato.diffusion.sigma_schedules import SIGMA_SCHEDULES
from sfumato.provenance.readers.comfyui import SCHEDULES

SAMPLERS = (
    "euler", "euler_cfg_pp", "euler_ancestral", "euler_ancestral_cfg_pp", "heun", "dpm_2", "dpm_2_ancestral", "lms",
    "dpm_fast", "dpm_adaptive", "dpmpp_2s_ancestral", "dpmpp_sde", "dpmpp_sde_gpu", "dpmpp_2m", "dpmpp_2m_sde",
    "dpmpp_2m_sde_gpu", "dpmpp_2m_sde_heun", "dpmpp_2m_sde_heun_gpu", "dpmpp_3m_sde", "dpmpp_3m_sde_gpu", "ddpm", "lcm",
    "ipndm", "deis", "res_multistep", "res_multistep_ancestral", "er_sde", "sa_solver", "ddim", "uni_pc", "uni_pc_bh2",
)  # fmt: skip
SCHEDULERS = (
    "simple", "sgm_uniform", "karras", "exponential", "ddim_uniform", "beta", "normal", "linear_quadratic",
    "kl_optimal",
)  # fmt: skip
INSTEAD = {name: text for name, text in HINTS.items() if name not in SAMPLERS}
WITHOUT_LAST_BUT_ONE = ("dpm_2", "dpm_2_ancestral", "uni_pc", "uni_pc_bh2")
"""Samplers whose lists are made one step longer and lose the last level but one."""


def schedule_of(scheduler: str) -> str:
    """The name here of a list of noise levels."""
    return SCHEDULES.get(scheduler, scheduler)


assert all(schedule_of(name) in SIGMA_SCHEDULES for name in SCHEDULERS)
assert all(split_sampler_name(name) for name in SAMPLERS)
