"""The samplers that users choose from, by name. How each works is in `samplers/`, one file per kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

from torch import Tensor

from sfumato.diffusion.driver import Job
from sfumato.diffusion.guidance import Guidance
from sfumato.diffusion.noise_schedule import Table
from sfumato.diffusion.options import Option, Range, Value, options_of
from sfumato.diffusion.plugins import checked_name
from sfumato.diffusion.process import ForwardProcess
from sfumato.diffusion.rng import BrownianPath, NoiseStream, scaled
from sfumato.diffusion.sampler_names import ADD, SAMPLER_NAMES, Names, sampler_name
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
    """A sampler as users choose it: `calls` are the estimates per step. Its other names are in `sampler_names`.

    `order` is the measured order of convergence to the probability flow where no noise is added. Those of
    kind "ancestral" step past the next level and add noise up to it, those of kind "SDE" solve the stochastic equation.
    """

    name: str
    run: Callable[..., Job]
    order: int
    kind: Literal["ODE", "ancestral", "SDE"] = "ODE"
    multistep: bool = False
    calls: int = 1
    brownian: bool = False
    schedule: str = "discrete"
    vp_init_noise: bool = False  # first latents of variance 1 + sigma^2, as the original code has them
    timed: bool = False  # steps in the network's own times, and takes its `table`
    cfg_pp: bool = False  # a step of it has a CFG++ (`onestep.cfg_pp`)
    source: str = ""

    @property
    def label(self) -> str:
        """The community's name for it."""
        return SAMPLER_NAMES[self.name].label

    @property
    def options(self) -> dict[str, Option]:
        """Returns the options that users may set. Where noise can be added, `s_noise` scales it."""
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
        """Starts on one picture from the first latents x (1, C, h, w), with its noise and some of its `options`."""
        given: dict[str, Any] = dict(options)
        noise = scaled(BrownianPath(stream) if self.brownian else stream, given.pop("s_noise", S_NOISE.default))
        if self.timed:
            given["table"] = table
        run = self.run if guidance.unconditional is None else cfg_pp(self.run, guidance.unconditional)
        return run(guidance.begin(), x, sigmas, path, noise, **given)


SAMPLERS: dict[str, Sampler] = {
    sampler.name: sampler
    for sampler in (
        Sampler("ddim", ddim, 1, schedule="ddim_uniform", vp_init_noise=True, cfg_pp=True, source="arXiv:2010.02502"),
        Sampler("ddpm", ddpm, 1, "ancestral", schedule="ddim_uniform", vp_init_noise=True, cfg_pp=True,
                source="arXiv:2006.11239"),
        Sampler("plms", plms, 2, multistep=True, schedule="ddim_uniform", vp_init_noise=True,
                source="arXiv:2202.09778"),
        Sampler("ipndm", ipndm, 2, multistep=True, source="arXiv:2204.13902"),
        Sampler("euler", euler, 1, cfg_pp=True, source="arXiv:2206.00364"),
        Sampler("euler_ancestral", euler_ancestral, 1, "ancestral", cfg_pp=True, source="k-diffusion"),
        Sampler("heun", heun, 2, calls=2, source="arXiv:2206.00364"),
        Sampler("restart", restart, 2, "SDE", calls=2, schedule="karras", source="arXiv:2306.14878"),
        Sampler("lms", lms, 2, multistep=True, source="k-diffusion"),
        Sampler("dpm_2", dpm_2, 2, calls=2, schedule="karras", source="arXiv:2206.00927"),
        Sampler("dpm_2_ancestral", dpm_2_ancestral, 2, "ancestral", calls=2, schedule="karras", source="k-diffusion"),
        Sampler("dpm_fast", dpm_fast, 2, source="arXiv:2206.00927"),
        Sampler("dpm_adaptive", dpm_adaptive, 3, calls=3, source="arXiv:2206.00927"),
        Sampler("dpm_solver", dpm_solver, 2, multistep=True, source="arXiv:2206.00927"),
        Sampler("dpmpp_2s", dpmpp_2s, 2, schedule="karras", source="arXiv:2211.01095"),
        Sampler("dpmpp_2s_ancestral", dpmpp_2s_ancestral, 2, "ancestral", calls=2, schedule="karras",
                source="arXiv:2211.01095"),
        Sampler("dpmpp_2m", dpmpp_2m, 2, multistep=True, schedule="karras", source="arXiv:2211.01095"),
        Sampler("dpmpp_3m", dpmpp_3m, 2, multistep=True, schedule="karras", source="arXiv:2211.01095"),
        Sampler("dpmpp_sde", dpmpp_sde, 2, "SDE", calls=2, brownian=True, schedule="karras", source="arXiv:2211.01095"),
        Sampler("dpmpp_2m_sde", dpmpp_2m_sde, 2, "SDE", multistep=True, brownian=True, schedule="karras",
                source="arXiv:2211.01095"),
        Sampler("dpmpp_2m_sde_heun", partial(dpmpp_2m_sde, solver="heun"), 2, "SDE", multistep=True, brownian=True,
                schedule="exponential", source="arXiv:2211.01095"),
        Sampler("dpmpp_3m_sde", dpmpp_3m_sde, 2, "SDE", multistep=True, brownian=True, schedule="exponential",
                source="arXiv:2211.01095"),
        Sampler("unipc", unipc, 2, multistep=True, source="arXiv:2302.04867"),
        Sampler("unipc_bh2", partial(unipc, variant="bh2"), 2, multistep=True, source="arXiv:2302.04867"),
        Sampler("deis", deis, 2, multistep=True, source="arXiv:2204.13902"),
        Sampler("res_multistep", res_multistep, 2, multistep=True, source="arXiv:2308.02157"),
        Sampler("res_multistep_ancestral", partial(res_multistep, eta=1.0), 2, "ancestral", multistep=True,
                source="arXiv:2308.02157"),
        Sampler("er_sde", er_sde, 2, "SDE", multistep=True, source="arXiv:2309.06169"),
        Sampler("sa_solver", sa_solver, 2, "SDE", multistep=True, timed=True, source="arXiv:2309.05019"),
        Sampler("lcm", lcm, 1, "SDE", schedule="sgm_uniform", source="arXiv:2310.04378"),
        Sampler("tcd", tcd, 1, "SDE", schedule="sgm_uniform", timed=True, source="arXiv:2402.19159"),
    )
}  # fmt: skip


def find_sampler(name: str) -> Sampler:
    """A sampler by any of its names, see `sampler_names.sampler_name`. Raises SfumatoError."""
    return SAMPLERS[sampler_name(name)]


def add_sampler(
    name: str, sampler: object, label: str | None = None, aliases: tuple[str, ...] = (), **facts: Any
) -> Sampler:
    """Offer a sampler under a new name to this process, as the option `sampler`; returns it.

    `sampler` is a generator function with the arguments of those in `samplers/`, or a whole `Sampler`; `facts` are
    fields of `Sampler`, such as schedule="karras" or kind="ancestral". What the function takes besides, annotated with
    what it may be (see `options`), are its options. `label` is what pictures' settings call it. Raises ValueError for a
    name that is taken or no plain word, and for what is no function.
    """
    name = checked_name("sampler", name, name in SAMPLERS)
    if not isinstance(sampler, Sampler):
        if not callable(sampler):
            raise ValueError(f"the sampler {name} is {sampler!r}; give a generator function")
        own: dict[str, Any] = {"order": 1} | facts
        sampler = Sampler(name=name, run=sampler, **own)
    SAMPLER_NAMES[name] = Names(label or name, aliases)
    SAMPLERS[name] = replace(sampler, name=name)
    return SAMPLERS[name]


ADD["sampler"] = add_sampler
