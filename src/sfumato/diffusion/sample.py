"""The samplers that users choose from, by name. How each works is in `samplers/`, one file per kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

from torch import Tensor

from sfumato.diffusion.driver import Job
from sfumato.diffusion.guidance import Guidance
from sfumato.diffusion.lookup import find
from sfumato.diffusion.noise_schedule import Table
from sfumato.diffusion.options import Option, Range, Value, options_of
from sfumato.diffusion.process import ForwardProcess
from sfumato.diffusion.rng import BrownianPath, NoiseStream, scaled
from sfumato.diffusion.samplers.multistep import (
    deis,
    dpm_solver,
    dpmpp_2m,
    dpmpp_3m,
    ipndm,
    lms,
    plms,
    res_multistep,
    unipc,
)
from sfumato.diffusion.samplers.onestep import cfg_pp, ddim, ddpm, euler, euler_ancestral, lcm, tcd
from sfumato.diffusion.samplers.singlestep import (
    dpm_2,
    dpm_2_ancestral,
    dpm_adaptive,
    dpm_fast,
    dpmpp_2s,
    dpmpp_2s_ancestral,
    heun,
    restart,
)
from sfumato.diffusion.samplers.stochastic import dpmpp_2m_sde, dpmpp_3m_sde, dpmpp_sde, er_sde, sa_solver

S_NOISE = Option("s_noise", 1.0, Range(0, 100))


@dataclass(frozen=True)
class Sampler:
    """A sampler as users choose it: `label` is the community's name, `calls` the estimates per step.

    `order` is the measured order of convergence to the probability flow where no noise is added. Those of
    kind "ancestral" step past the next level and add noise up to it, those of kind "SDE" solve the stochastic equation.
    """

    name: str
    label: str
    run: Callable[..., Job]
    order: int
    kind: Literal["ODE", "ancestral", "SDE"] = "ODE"
    multistep: bool = False
    calls: int = 1
    aliases: tuple[str, ...] = ()
    brownian: bool = False
    schedule: str = "discrete"
    vp_init_noise: bool = False  # first latents of variance 1 + sigma^2, as the original code has them
    timed: bool = False  # steps in the network's own times, and takes its `table`
    cfg_pp: bool = False  # a step of it has a CFG++ (`onestep.cfg_pp`)
    source: str = ""

    @property
    def options(self) -> dict[str, Option]:
        """What users may set of it. Where noise can be added, `s_noise` scales it."""
        options = options_of(self.run)
        noisy = self.kind != "ODE" or "eta" in options or "s_churn" in options
        return options | {"s_noise": S_NOISE} if noisy else options

    def job(
        self,
        guidance: Guidance,
        x: Tensor,
        sigmas: Tensor,
        path: ForwardProcess,
        stream: NoiseStream,
        table: Table,
        options: Mapping[str, Value] = MappingProxyType({}),
    ) -> Job:
        """At work on one picture from the first latents x (1, C, h, w), with its noise and some of its `options`."""
        given: dict[str, Any] = dict(options)
        noise = scaled(BrownianPath(stream) if self.brownian else stream, given.pop("s_noise", S_NOISE.default))
        if self.timed:
            given["table"] = table
        run = self.run if guidance.unconditional is None else cfg_pp(self.run, guidance.unconditional)
        return run(guidance.begin(), x, sigmas, path, noise, **given)


SAMPLERS: dict[str, Sampler] = {
    sampler.name: sampler
    for sampler in (
        Sampler("ddim", "DDIM", ddim, 1, aliases=("DDIMScheduler",), schedule="ddim_uniform", vp_init_noise=True,
                cfg_pp=True, source="arXiv:2010.02502"),
        Sampler("ddpm", "DDPM", ddpm, 1, "ancestral", aliases=("DDPMScheduler",), schedule="ddim_uniform",
                vp_init_noise=True, cfg_pp=True, source="arXiv:2006.11239"),
        Sampler("plms", "PLMS", plms, 2, multistep=True, aliases=("pndm", "PNDMScheduler"), schedule="ddim_uniform",
                vp_init_noise=True, source="arXiv:2202.09778"),
        Sampler("ipndm", "iPNDM", ipndm, 2, multistep=True, aliases=("IPNDMScheduler",), source="arXiv:2204.13902"),
        Sampler("euler", "Euler", euler, 1, aliases=("k_euler", "EulerDiscreteScheduler"), cfg_pp=True,
                source="arXiv:2206.00364"),
        Sampler("euler_ancestral", "Euler a", euler_ancestral, 1, "ancestral",
                aliases=("euler_a", "k_euler_a", "k_euler_ancestral", "EulerAncestralDiscreteScheduler"),
                cfg_pp=True, source="k-diffusion"),
        Sampler("heun", "Heun", heun, 2, calls=2, aliases=("k_heun", "HeunDiscreteScheduler"),
                source="arXiv:2206.00364"),
        Sampler("restart", "Restart", restart, 2, "SDE", calls=2, schedule="karras", source="arXiv:2306.14878"),
        Sampler("lms", "LMS", lms, 2, multistep=True, aliases=("k_lms", "LMSDiscreteScheduler"), source="k-diffusion"),
        Sampler("dpm_2", "DPM2", dpm_2, 2, calls=2, aliases=("k_dpm_2", "KDPM2DiscreteScheduler"), schedule="karras",
                source="arXiv:2206.00927"),
        Sampler("dpm_2_ancestral", "DPM2 a", dpm_2_ancestral, 2, "ancestral", calls=2,
                aliases=("dpm2_a", "k_dpm_2_a", "k_dpm_2_ancestral", "KDPM2AncestralDiscreteScheduler"),
                schedule="karras", source="k-diffusion"),
        Sampler("dpm_fast", "DPM fast", dpm_fast, 2, aliases=("k_dpm_fast",), source="arXiv:2206.00927"),
        Sampler("dpm_adaptive", "DPM adaptive", dpm_adaptive, 3, calls=3, aliases=("k_dpm_ad", "k_dpm_adaptive"),
                source="arXiv:2206.00927"),
        Sampler("dpm_solver", "DPM-Solver", dpm_solver, 2, multistep=True, source="arXiv:2206.00927"),
        Sampler("dpmpp_2s", "DPM++ 2S", dpmpp_2s, 2, aliases=("DPMSolverSinglestepScheduler",), schedule="karras",
                source="arXiv:2211.01095"),
        Sampler("dpmpp_2s_ancestral", "DPM++ 2S a", dpmpp_2s_ancestral, 2, "ancestral", calls=2,
                aliases=("k_dpmpp_2s_a", "k_dpmpp_2s_ancestral"), schedule="karras", source="arXiv:2211.01095"),
        Sampler("dpmpp_2m", "DPM++ 2M", dpmpp_2m, 2, multistep=True,
                aliases=("k_dpmpp_2m", "DPMSolverMultistepScheduler"), schedule="karras", source="arXiv:2211.01095"),
        Sampler("dpmpp_3m", "DPM++ 3M", dpmpp_3m, 2, multistep=True, schedule="karras", source="arXiv:2211.01095"),
        Sampler("dpmpp_sde", "DPM++ SDE", dpmpp_sde, 2, "SDE", calls=2,
                aliases=("k_dpmpp_sde", "dpmpp_sde_gpu", "DPMSolverSDEScheduler"), brownian=True, schedule="karras",
                source="arXiv:2211.01095"),
        Sampler("dpmpp_2m_sde", "DPM++ 2M SDE", dpmpp_2m_sde, 2, "SDE", multistep=True,
                aliases=("k_dpmpp_2m_sde", "dpmpp_2m_sde_gpu"), brownian=True, schedule="karras",
                source="arXiv:2211.01095"),
        Sampler("dpmpp_2m_sde_heun", "DPM++ 2M SDE Heun", partial(dpmpp_2m_sde, solver="heun"), 2, "SDE",
                multistep=True, aliases=("k_dpmpp_2m_sde_heun", "dpmpp_2m_sde_heun_gpu"), brownian=True,
                schedule="exponential", source="arXiv:2211.01095"),
        Sampler("dpmpp_3m_sde", "DPM++ 3M SDE", dpmpp_3m_sde, 2, "SDE", multistep=True,
                aliases=("k_dpmpp_3m_sde", "dpmpp_3m_sde_gpu"), brownian=True, schedule="exponential",
                source="arXiv:2211.01095"),
        Sampler("unipc", "UniPC", unipc, 2, multistep=True, aliases=("uni_pc",), source="arXiv:2302.04867"),
        Sampler("unipc_bh2", "UniPC bh2", partial(unipc, variant="bh2"), 2, multistep=True,
                aliases=("uni_pc_bh2", "UniPCMultistepScheduler"), source="arXiv:2302.04867"),
        Sampler("deis", "DEIS", deis, 2, multistep=True, aliases=("DEISMultistepScheduler",),
                source="arXiv:2204.13902"),
        Sampler("res_multistep", "Res Multistep", res_multistep, 2, multistep=True, source="arXiv:2308.02157"),
        Sampler("res_multistep_ancestral", "Res Multistep a", partial(res_multistep, eta=1.0), 2, "ancestral",
                multistep=True, source="arXiv:2308.02157"),
        Sampler("er_sde", "ER SDE", er_sde, 2, "SDE", multistep=True, source="arXiv:2309.06169"),
        Sampler("sa_solver", "SA Solver", sa_solver, 2, "SDE", multistep=True, aliases=("SASolverScheduler",),
                timed=True, source="arXiv:2309.05019"),
        Sampler("lcm", "LCM", lcm, 1, "SDE", aliases=("LCMScheduler",), schedule="sgm_uniform",
                source="arXiv:2310.04378"),
        Sampler("tcd", "TCD", tcd, 1, "SDE", aliases=("TCDScheduler",), schedule="sgm_uniform", timed=True,
                source="arXiv:2402.19159"),
    )
}  # fmt: skip


def find_sampler(name: str) -> Sampler:
    """A sampler by its name, its community label or an alias, spelled as `names.find` allows. Raises SfumatoError."""
    names = {sampler.name: (sampler.label, *sampler.aliases) for sampler in SAMPLERS.values()}
    return SAMPLERS[find("sampler", name, names)]
