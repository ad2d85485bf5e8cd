"""Pictures from words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch

from sfumato.diffusion.driver import Job
from sfumato.diffusion.guidance import Guidance, switch_at
from sfumato.diffusion.noise_schedule import Table
from sfumato.errors import SfumatoError
from sfumato.pipeline.attention import with_word_maps
from sfumato.pipeline.conditioning import guidance
from sfumato.pipeline.events import Events
from sfumato.pipeline.generate import NOTHING, Plan, generate, per_picture
from sfumato.pipeline.model import Model
from sfumato.pipeline.sampling import SamplingRun
from sfumato.pipeline.two_passes import TwoPasses, enlarged, find_upscaler, hires_metadata
from sfumato.settings.option import written
from sfumato.settings.picture import RefinerSettings
from sfumato.settings.settings import Settings
from sfumato.spec import Spec
from sfumato.tasks.request import Request


@dataclass(frozen=True, kw_only=True, eq=False)
class Txt2ImgRequest(Request):
    """Pictures from words, which a `refiner` may finish. With `attention` every step says where it attends to which
    word, see `Progress`."""

    refiner: Model | None = None
    attention: bool = False

    def settings(self, spec: Spec) -> Settings:
        if not isinstance(self.refiner, Model | None):
            raise SfumatoError(f"the refiner is {self.refiner!r}; give a loaded model, such as sfumato.load(path)")
        refiner = None if self.refiner is None else self.refiner.spec
        return Settings.of(spec, self.prompt, self.negative, refiner=refiner, **self.options)

    def draw(self, model: Model, settings: Settings) -> Events:
        if not self.attention:
            return txt2img(model, settings, self.refiner)
        return with_word_maps(model, settings, lambda watched: txt2img(watched, settings, self.refiner))


def txt2img(model: Model, settings: Settings, refiner: Model | None = None) -> Events:
    """Draw `settings.n` pictures; yields every step and every finished picture.

    Where `settings.switch_at` says, the `refiner` goes on. Raises SfumatoError at once for a prompt that is too
    long, a clip skip that a model lacks, a refiner of other latents, an upscaler for the second pass that is none,
    or a model that needs a picture.
    """
    unchanged, model = model, model.for_request(settings)
    metadata = NOTHING
    if refiner is not None and settings.switch_at is not None:
        _check_latents(model, refiner)
        refiner = refiner.following(settings)
        metadata = {"Refiner": _named(refiner), **written(RefinerSettings, settings)}
    run = SamplingRun.of(model, settings)
    once = partial(_guidance, model, refiner, run)
    if settings.hires_scale is None:
        return generate(model, settings, Plan.of(model, run, once, metadata=metadata))
    second = SamplingRun.of(model, settings.second_pass(model.spec)).from_strength(settings.hires_strength)
    upscaler = find_upscaler(settings.hires_upscaler, model)
    passes = TwoPasses(run, second, partial(enlarged, model, upscaler, second.shape))
    again = model if settings.hires_prompt is None else unchanged.for_request(settings.second_pass(model.spec))

    def both(one: Settings) -> tuple[Guidance, Guidance]:
        larger = one.second_pass(model.spec)
        return once(one), _guidance(again, refiner, second, larger, after=len(run.sigmas) - 1)

    guides = per_picture(model, both)

    def job(one: Settings) -> Job:
        return passes.job(*guides(one), one)

    def described(index: int) -> Mapping[str, object]:
        return {**metadata, **hires_metadata(settings.of_picture(index), upscaler)}

    plan = Plan.of(model, second, once, metadata=described)
    return generate(model, settings, replace(plan, job=job))


def _guidance(model: Model, refiner: Model | None, run: SamplingRun, one: Settings, after: int = 0) -> Guidance:
    guide = guidance(model, one, run.sigmas, after=after)
    if refiner is None or one.switch_at is None:
        return guide
    switch = partial(switch_at, switch_level(run.table, one.switch_at))
    return guide.through(switch, guidance(refiner, one, run.sigmas, after=after))


def switch_level(table: Table, share: float) -> float:
    """Returns the noise level below which the refiner takes over, after that share of the training times.

    Times, not steps: 0.8 of 1000 leaves it the times below 200, however many steps fall there, as diffusers'
    `denoising_end` and `denoising_start` have it.
    """
    times = len(table.sigmas)
    time = torch.tensor([min(round(times - share * times), times - 1)])
    return table.sigma(time).item() * (1 - 1e-9)  # a step at this very level, but for rounding, is the base's


def _named(model: Model) -> str:
    return f"{model.name} [{model.hash}]" if model.hash else model.name


def _check_latents(model: Model, refiner: Model) -> None:
    ours, theirs = ((one.spec.vae.units, one.denoiser.path) for one in (model, refiner))
    if ours != theirs:
        raise SfumatoError(
            f"{refiner.name} ({refiner.spec.title}) cannot go on from the latents of {model.name} "
            f"({model.spec.title}); give a refiner that was made for it"
        )
