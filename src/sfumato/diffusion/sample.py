"""The samplers that users choose from, by name. How each works is in `samplers/`, one file per kind."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from sfumato.diffusion.drive import Job
from sfumato.diffusion.guide import Guidance
from sfumato.diffusion.names import find
from sfumato.diffusion.samplers.multistep import deis, dpm_solver, dpmpp_2m, dpmpp_3m, ipndm, lms, plms, unipc
from sfumato.diffusion.samplers.onestep import cfg_pp, ddim, ddpm, euler, euler_ancestral, lcm, tcd
from sfumato.diffusion.samplers.singlestep import (
    dpm_2,
    dpm_2_ancestral,
    dpm_adaptive,
    dpm_fast,
    dpmpp_2s,
    dpmpp_2s_ancestral,
    heun,
)
from sfumato.diffusion.samplers.stochastic import dpmpp_2m_sde, dpmpp_3m_sde, dpmpp_sde


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
    timed: bool = False  # steps in the network's own times, and takes its `table`
    cfg_pp: bool = False  # a step of it has a CFG++ (`onestep.cfg_pp`)
    source: str = ""

    @property
    def options(self) -> dict[str, float | int | str]:
        """The settings that this sampler takes, with their defaults."""
        parameters = inspect.signature(self.run).parameters.values()
        return {p.name: p.default for p in parameters if isinstance(p.default, float | int | str)}

    def guided_by(self, guidance: Guidance) -> Callable[..., Job]:
        """How it draws one picture, given first latents, noise levels, path, noise and its options."""
        run = self.run if guidance.unconditional is None else cfg_pp(self.run, guidance.unconditional)
        return partial(run, guidance.begin())


SAMPLERS: dict[str, Sampler] = {
    sampler.name: sampler
    for sampler in (
        Sampler("ddim", "DDIM", ddim, schedule="ddim_uniform", unit_start=True, cfg_pp=True, source="arXiv:2010.02502"),
        Sampler("ddpm", "DDPM", ddpm, schedule="ddim_uniform", unit_start=True, cfg_pp=True, source="arXiv:2006.11239"),
        Sampler("plms", "PLMS", plms, aliases=("pndm",), schedule="ddim_uniform", unit_start=True,
                source="arXiv:2202.09778"),
        Sampler("ipndm", "iPNDM", ipndm, source="arXiv:2204.13902"),
        Sampler("euler", "Euler", euler, aliases=("k_euler",), cfg_pp=True, source="arXiv:2206.00364"),
        Sampler("euler_ancestral", "Euler a", euler_ancestral, aliases=("euler_a", "k_euler_a"), cfg_pp=True,
                source="k-diffusion"),
        Sampler("heun", "Heun", heun, calls=2, aliases=("k_heun",), source="arXiv:2206.00364"),
        Sampler("lms", "LMS", lms, aliases=("k_lms",), source="k-diffusion"),
        Sampler("dpm_2", "DPM2", dpm_2, calls=2, aliases=("k_dpm_2",), schedule="karras", source="arXiv:2206.00927"),
        Sampler("dpm_2_ancestral", "DPM2 a", dpm_2_ancestral, calls=2, aliases=("dpm2_a", "k_dpm_2_a"),
                schedule="karras", source="k-diffusion"),
        Sampler("dpm_fast", "DPM fast", dpm_fast, aliases=("k_dpm_fast",), source="arXiv:2206.00927"),
        Sampler("dpm_adaptive", "DPM adaptive", dpm_adaptive, calls=3, aliases=("k_dpm_ad",),
                source="arXiv:2206.00927"),
        Sampler("dpm_solver", "DPM-Solver", dpm_solver, source="arXiv:2206.00927"),
        Sampler("dpmpp_2s", "DPM++ 2S", dpmpp_2s, schedule="karras", source="arXiv:2211.01095"),
        Sampler("dpmpp_2s_ancestral", "DPM++ 2S a", dpmpp_2s_ancestral, calls=2, aliases=("k_dpmpp_2s_a",),
                schedule="karras", source="arXiv:2211.01095"),
        Sampler("dpmpp_2m", "DPM++ 2M", dpmpp_2m, aliases=("k_dpmpp_2m",), schedule="karras",
                source="arXiv:2211.01095"),
        Sampler("dpmpp_3m", "DPM++ 3M", dpmpp_3m, schedule="karras", source="arXiv:2211.01095"),
        Sampler("dpmpp_sde", "DPM++ SDE", dpmpp_sde, calls=2, aliases=("k_dpmpp_sde",), brownian=True,
                schedule="karras", source="arXiv:2211.01095"),
        Sampler("dpmpp_2m_sde", "DPM++ 2M SDE", dpmpp_2m_sde, aliases=("k_dpmpp_2m_sde",), brownian=True,
                schedule="karras", source="arXiv:2211.01095"),
        Sampler("dpmpp_3m_sde", "DPM++ 3M SDE", dpmpp_3m_sde, aliases=("k_dpmpp_3m_sde",), brownian=True,
                schedule="exponential", source="arXiv:2211.01095"),
        Sampler("unipc", "UniPC", unipc, aliases=("uni_pc",), source="arXiv:2302.04867"),
        Sampler("deis", "DEIS", deis, source="arXiv:2204.13902"),
        Sampler("lcm", "LCM", lcm, schedule="sgm_uniform", source="arXiv:2310.04378"),
        Sampler("tcd", "TCD", tcd, schedule="sgm_uniform", timed=True, source="arXiv:2402.19159"),
    )
}  # fmt: skip


def find_sampler(name: str) -> Sampler:
    """A sampler by its name, its community label or an alias, spelled as `names.find` allows. Raises SfumatoError."""
    names = {sampler.name: (sampler.label, *sampler.aliases) for sampler in SAMPLERS.values()}
    return SAMPLERS[find("sampler", name, names)]
