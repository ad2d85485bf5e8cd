"""Nodes that draw: samplers, and what custom ones are put together of."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

import torch
from torch import Tensor

from sfumato.diffusion.noise_schedule import Table
from sfumato.diffusion.sigma_schedules import sigma_list
from sfumato.provenance.recipe import whole_list
from sfumato.server.kinds.graph.drawing import Sampling, sampled
from sfumato.server.kinds.graph.run import Making, Run
from sfumato.server.kinds.graph.sampler_lists import INSTEAD, SAMPLERS, SCHEDULERS, WITHOUT_LAST_BUT_ONE, schedule_of
from sfumato.server.kinds.graph.table import SEED_LIMIT, Choice, Number, Switch, node
from sfumato.server.kinds.graph.values import (
    Conditioning,
    Guider,
    Latent,
    ModelRef,
    Noise,
    SamplerChoice,
    Sigmas,
)

Seed = Annotated[int, Number(0, SEED_LIMIT, seed=True)]
Steps = Annotated[int, Number(1, 10000)]
StepNumber = Annotated[int, Number(0, 10000)]
Cfg = Annotated[float, Number(0.0, 100.0, 0.1)]
Share = Annotated[float, Number(0.0, 1.0, 0.01)]
SamplerName = Annotated[str, Choice(SAMPLERS, INSTEAD)]
Scheduler = Annotated[str, Choice(SCHEDULERS)]
Enabled = Annotated[str, Choice(("enable", "disable"))]
Plain = Annotated[float, Number(0.0, 100.0, 0.01)]


def listed(table: Table, scheduler: str, steps: int, sampler: str = "") -> Tensor:
    """ComfyUI's noise levels for a sampler; some get a step more and go without the last level but one."""
    more = int(sampler in WITHOUT_LAST_BUT_ONE)
    levels = sigma_list(schedule_of(scheduler), table, steps + more)
    return torch.cat([levels[:-2], levels[-1:]]) if more else levels


def last_steps(scheduler: str, steps: int, denoise: float, sampler: str = "") -> Callable[[Table], Tensor]:
    """The last steps of a list so long that they are the share `denoise` of it; none for 0."""

    def levels(table: Table) -> Tensor:
        if denoise <= 0:
            return torch.zeros(0, dtype=torch.float64)
        return listed(table, scheduler, whole_list(steps, denoise), sampler)[-(steps + 1) :]

    return levels


@node("KSampler", "sampling")
def ksampler(
    run: Run, *, model: ModelRef, seed: Seed = 0, steps: Steps = 20, cfg: Cfg = 8.0,
    sampler_name: SamplerName = "euler", scheduler: Scheduler = "simple", positive: Conditioning,
    negative: Conditioning, latent_image: Latent, denoise: Share = 1.0,
) -> Making[Latent]:  # fmt: skip
    """Draws on latents: all of them anew, or with a lower denoise the last part of the way."""
    return (yield from sampled(run, Sampling(
        Guider(model, positive, negative, cfg), SamplerChoice(sampler_name),
        last_steps(scheduler, steps, denoise, sampler_name), latent_image, seed, strength=denoise,
        schedule=schedule_of(scheduler), steps=steps,
    )))  # fmt: skip


@node("KSamplerAdvanced", "sampling")
def ksampler_advanced(
    run: Run, *, model: ModelRef, add_noise: Enabled = "enable", noise_seed: Seed = 0, steps: Steps = 20,
    cfg: Cfg = 8.0, sampler_name: SamplerName = "euler", scheduler: Scheduler = "simple", positive: Conditioning,
    negative: Conditioning, latent_image: Latent, start_at_step: StepNumber = 0, end_at_step: StepNumber = 10000,
    return_with_leftover_noise: Enabled = "disable",
) -> Making[Latent]:  # fmt: skip
    """Draws some steps of a list, with or without noise at the start, and with or without leaving noise at the end."""
    last = min(end_at_step, steps)

    def levels(table: Table) -> Tensor:
        part = listed(table, scheduler, steps, sampler_name)[min(start_at_step, last) : last + 1].clone()
        if len(part) and last < steps and return_with_leftover_noise == "disable":
            part[-1] = 0
        return part

    return (yield from sampled(run, Sampling(
        Guider(model, positive, negative, cfg), SamplerChoice(sampler_name), levels, latent_image, noise_seed,
        add_noise == "enable", max(0, steps - start_at_step) / steps, schedule_of(scheduler), steps,
    )))  # fmt: skip


def _custom(run: Run, noise: Noise, guider: Guider, sampler: SamplerChoice, sigmas: Sigmas, latent: Latent) -> Sampling:
    levels = torch.tensor(sigmas.levels, dtype=torch.float64)
    strength = 1.0
    if len(levels) > 1 and not latent.empty:
        table = run.model(guider.model.parts).table
        strength = min(1.0, table.time(levels[:1]).item() / max(1, table.ends[0]))
    return Sampling(
        guider, sampler, lambda table: levels, latent, noise.seed or 0, noise.seed is not None, strength,
        steps=min(1000, max(1, len(levels) - 1)),
    )  # fmt: skip


@node("SamplerCustom", "sampling/custom_sampling", "output", "denoised_output")
def sampler_custom(
    run: Run, *, model: ModelRef, add_noise: Annotated[bool, Switch()] = True, noise_seed: Seed = 0, cfg: Cfg = 8.0,
    positive: Conditioning, negative: Conditioning, sampler: SamplerChoice, sigmas: Sigmas, latent_image: Latent,
) -> Making[tuple[Latent, Latent]]:  # fmt: skip
    """Draws on latents over a list of noise levels."""
    noise = Noise(noise_seed if add_noise else None)
    guider = Guider(model, positive, negative, cfg)
    return (yield from sampler_custom_advanced(run, noise, guider, sampler, sigmas, latent_image))


@node("SamplerCustomAdvanced", "sampling/custom_sampling", "output", "denoised_output")
def sampler_custom_advanced(
    run: Run, noise: Noise, guider: Guider, sampler: SamplerChoice, sigmas: Sigmas, latent_image: Latent
) -> Making[tuple[Latent, Latent]]:
    """Draws on latents over a list of noise levels, by a guider and from noise of its own."""
    latent = yield from sampled(run, _custom(run, noise, guider, sampler, sigmas, latent_image))
    return latent, replace(latent, noisy=False)


@node("RandomNoise", "sampling/custom_sampling/noise")
def random_noise(noise_seed: Seed = 0) -> Noise:
    """The noise of a seed."""
    return Noise(noise_seed)


@node("DisableNoise", "sampling/custom_sampling/noise")
def no_noise() -> Noise:
    """No noise."""
    return Noise(None)


@node("BasicGuider", "sampling/custom_sampling/guiders")
def basic_guider(model: ModelRef, conditioning: Conditioning) -> Guider:
    """Guided by one conditioning alone."""
    return Guider(model, conditioning)


@node("CFGGuider", "sampling/custom_sampling/guiders")
def cfg_guider(model: ModelRef, positive: Conditioning, negative: Conditioning, cfg: Cfg = 8.0) -> Guider:
    """Guided towards one conditioning and away from another."""
    return Guider(model, positive, negative, cfg)


@node("DualCFGGuider", "sampling/custom_sampling/guiders")
def dual_cfg_guider(
    model: ModelRef, cond1: Conditioning, cond2: Conditioning, negative: Conditioning, cfg_conds: Cfg = 8.0,
    cfg_cond2_negative: Cfg = 8.0, style: Annotated[str, Choice(("regular", "nested"))] | None = None,
) -> Guider:  # fmt: skip
    """Guided from the negative conditioning to the second, and from there to the first."""
    return Guider(model, cond1, negative, cfg_conds, cond2, cfg_cond2_negative, style == "nested")


@node("KSamplerSelect", "sampling/custom_sampling/samplers")
def select(sampler_name: SamplerName = "euler") -> SamplerChoice:
    """A sampler by its name."""
    return SamplerChoice(sampler_name)


@node("SamplerEulerAncestral", "sampling/custom_sampling/samplers")
def euler_ancestral(eta: Plain = 1.0, s_noise: Plain = 1.0) -> SamplerChoice:
    """Euler with new noise in every step."""
    return SamplerChoice("euler_ancestral", (("eta", eta), ("s_noise", s_noise)))


@node("SamplerEulerAncestralCFGPP", "sampling/custom_sampling/samplers")
def euler_ancestral_cfg_pp(eta: Plain = 1.0, s_noise: Plain = 1.0) -> SamplerChoice:
    """Euler with new noise in every step, by CFG++."""
    return SamplerChoice("euler_ancestral_cfg_pp", (("eta", eta), ("s_noise", s_noise)))


@node("SamplerDPMPP_2S_Ancestral", "sampling/custom_sampling/samplers")
def dpmpp_2s_ancestral(eta: Plain = 1.0, s_noise: Plain = 1.0) -> SamplerChoice:
    """DPM++ 2S with new noise in every step."""
    return SamplerChoice("dpmpp_2s_ancestral", (("eta", eta), ("s_noise", s_noise)))


@node("SamplerDPMPP_2M_SDE", "sampling/custom_sampling/samplers")
def dpmpp_2m_sde(
    solver_type: Annotated[str, Choice(("midpoint", "heun"))] = "midpoint", eta: Plain = 1.0, s_noise: Plain = 1.0,
    noise_device: Annotated[str, Choice(("gpu", "cpu"))] = "gpu",
) -> SamplerChoice:  # fmt: skip
    """DPM++ 2M of the stochastic equation."""
    return SamplerChoice("dpmpp_2m_sde", (("solver", solver_type), ("eta", eta), ("s_noise", s_noise)))


@node("SamplerDPMPP_3M_SDE", "sampling/custom_sampling/samplers")
def dpmpp_3m_sde(
    eta: Plain = 1.0, s_noise: Plain = 1.0, noise_device: Annotated[str, Choice(("gpu", "cpu"))] = "gpu"
) -> SamplerChoice:
    """DPM++ 3M of the stochastic equation."""
    return SamplerChoice("dpmpp_3m_sde", (("eta", eta), ("s_noise", s_noise)))


@node("SamplerDPMPP_SDE", "sampling/custom_sampling/samplers")
def dpmpp_sde(
    eta: Plain = 1.0, s_noise: Plain = 1.0, r: Plain = 0.5,
    noise_device: Annotated[str, Choice(("gpu", "cpu"))] = "gpu",
) -> SamplerChoice:  # fmt: skip
    """DPM++ of the stochastic equation."""
    return SamplerChoice("dpmpp_sde", (("eta", eta), ("s_noise", s_noise), ("r", r)))


@node("SamplerLMS", "sampling/custom_sampling/samplers")
def lms(order: Annotated[int, Number(1, 100)] = 4) -> SamplerChoice:
    """Linear multistep of an order."""
    return SamplerChoice("lms", (("order", order),))


def finite(values: Tensor) -> Sigmas:
    """A list of noise levels."""
    return Sigmas(tuple(value for value in values.tolist() if math.isfinite(value)))
