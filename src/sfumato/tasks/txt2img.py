"""Pictures from words."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from sfumato.diffusion.guidance import Guidance, switch_at
from sfumato.diffusion.noise_schedule import Table
from sfumato.errors import SfumatoError
from sfumato.pipeline.conditioning import guidance
from sfumato.pipeline.generate import NO_FACTS, Facts, draw
from sfumato.pipeline.hires import InTwoPasses, TwoPasses, described, enlarged, find_upscaler
from sfumato.pipeline.latents import Picture, Progress
from sfumato.pipeline.sampling import SamplingRun
from sfumato.settings.settings import Settings
from sfumato.text.prompt.syntax import second_pass

if TYPE_CHECKING:
    from sfumato.api import StableDiffusion


def txt2img(
    model: StableDiffusion, settings: Settings, refiner: StableDiffusion | None = None
) -> Generator[Progress | Picture, None, None]:
    """Draw `settings.n` pictures; yields every step and every finished picture.

    Where `settings.switch_at` says, the `refiner` goes on. Raises SfumatoError at once for a prompt that is empty or
    too long, a clip skip that a model lacks, a refiner of other latents, an upscaler for the second pass that is none,
    or a model that needs a picture.
    """
    if not settings.prompt.strip():
        raise SfumatoError("the prompt is empty; say in words what to draw")
    model = model.seamless(settings.tiling)
    facts = NO_FACTS
    if refiner is not None and settings.switch_at is not None:
        _check_latents(model, refiner)
        refiner = refiner.seamless(settings.tiling)
        facts = _handed_over(refiner, settings.switch_at)
    first = SamplingRun.of(model, settings)
    once = partial(_guidance, model, refiner, first)
    if settings.hires_scale is None:
        return draw(model, settings, first, once, facts=facts)
    width, height = settings.second_size(model.spec)
    steps = settings.hires_steps or settings.steps
    second = SamplingRun.of(model, replace(settings, width=width, height=height, steps=steps)).from_strength(
        settings.hires_strength
    )
    upscaler = find_upscaler(settings.hires_upscaler, model)

    def twice(one: Settings) -> Guidance:
        taken, syntax = len(first.sigmas) - 1, one.prompt_syntax
        prompt = second_pass(syntax, one.prompt, taken)
        negative = second_pass(syntax, one.negative, taken, compose=False)
        further = replace(one, width=width, height=height, steps=steps, prompt=prompt, negative=negative)
        return InTwoPasses.of(once(one), _guidance(model, refiner, second, further))

    way = TwoPasses(first, second, partial(enlarged, model, upscaler, second.shape))
    return draw(model, settings, way, twice, facts={**facts, **described(settings, upscaler)})


def _guidance(
    model: StableDiffusion, refiner: StableDiffusion | None, way: SamplingRun, settings: Settings
) -> Guidance:
    guide = guidance(model, settings, way.sigmas)
    if refiner is None or settings.switch_at is None:
        return guide
    switch = partial(switch_at, switch_level(way.table, settings.switch_at))
    return guide.through(switch, guidance(refiner, settings, way.sigmas))


def switch_level(table: Table, share: float) -> float:
    """The noise level below which the refiner goes on after that share of the training times, counted from noise.

    Times, not steps: 0.8 of 1000 leaves it the times below 200, however many steps fall there, as diffusers'
    `denoising_end` and `denoising_start` have it.
    """
    times = len(table.sigmas)
    time = torch.tensor([min(round(times - share * times), times - 1)])
    return table.sigma(time).item() * (1 - 1e-9)  # a step at this very level, but for rounding, is the base's


def _handed_over(refiner: StableDiffusion, share: float) -> Facts:
    name = f"{refiner.name} [{refiner.hash}]" if refiner.hash else refiner.name
    return {"Refiner": name, "Refiner switch at": share}


def _check_latents(model: StableDiffusion, refiner: StableDiffusion) -> None:
    ours, theirs = ((one.spec.vae.units, one.denoiser.path) for one in (model, refiner))
    if ours != theirs:
        raise SfumatoError(
            f"{refiner.name} ({refiner.spec.title}) cannot go on from the latents of {model.name} "
            f"({model.spec.title}); give a refiner that was made for it"
        )
