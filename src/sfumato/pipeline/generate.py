"""What most tasks end in: jobs on one way, decoded, marked and described."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from torch import Tensor

from sfumato import __version__
from sfumato.diffusion.driver import Job
from sfumato.diffusion.guidance import Guidance
from sfumato.diffusion.options import field_of
from sfumato.diffusion.sample import find_sampler
from sfumato.diffusion.sigma_schedules import SCHEDULES
from sfumato.errors import SfumatoError
from sfumato.pipeline.hires import TwoPasses
from sfumato.pipeline.latents import Picture, Progress, decode, run
from sfumato.pipeline.ranking import Ranking
from sfumato.pipeline.sampling import SamplingRun
from sfumato.provenance import infotext, watermark
from sfumato.runtime.device import pictures_at_once
from sfumato.settings.settings import Pair, Settings

if TYPE_CHECKING:
    from sfumato.api import StableDiffusion

Facts = Mapping[str, object]
Touch = Callable[[Image.Image], Image.Image]
NO_FACTS: Facts = MappingProxyType({})
AT_HAND = 32  # guidances of different words that are kept


def draw(
    model: StableDiffusion,
    settings: Settings,
    way: SamplingRun | TwoPasses,
    guidance: Callable[[Settings], Guidance],
    known: Tensor | None = None,
    touch: Touch | None = None,
    facts: Facts = NO_FACTS,
    protect: Touch | None = None,
) -> Generator[Progress | Picture, None, None]:
    """Draw `settings.n` pictures, with seeds seed, seed + 1 ...; yields every step and every finished picture.

    `guidance` makes of the settings of one picture, whose words have no chance in them and whose seed is its own, what
    it is drawn with. It is asked once for all pictures of the same words, and for each seed where the model has a
    prior, which lays out each in its own way. Raises SfumatoError at once for wildcards that cannot be read, and what
    `guidance` raises for the first picture.
    With `settings.best_of` so many are drawn, and the best come when all are finished (see `rank`).

    `known` are the latents (1, C, h, w) of a picture to start from, see `SamplingRun.job`. `touch` changes it after it
    is decoded, before it is marked, `protect` after that. `facts` are the task's own fields of the description.
    Raises SfumatoError at once for settings that only other tasks honour.
    """
    if settings.hires_scale is not None and not isinstance(way, TwoPasses):
        raise SfumatoError("only pictures from words have a second pass; leave hires_scale out, or enlarge the result")
    if settings.tiling != model.tiling:
        raise SfumatoError("this task draws no pictures that tile; leave tiling out")

    pictures = [settings.of_picture(index) for index in range(settings.draws)]

    @lru_cache(maxsize=AT_HAND)
    def guidance_of(prompt: str, negative: str, seed: int) -> Guidance:
        return guidance(replace(settings, prompt=prompt, negative=negative, seed=seed))

    def guidance_at(index: int) -> Guidance:
        seed = settings.seed if model.spec.prior is None else settings.seeds(index)[0]
        return guidance_of(pictures[index].prompt, pictures[index].negative, seed)

    guidance_at(0)
    ranking = Ranking.of(model, settings)

    def finish(index: int, x: Tensor) -> Picture:
        image = decode(model.vae, way.final_latents(x))
        if touch is not None:
            image = touch(image)
        if settings.watermark:
            image = marked(image)
        if protect is not None:
            image = protect(image)
        seed, other = settings.seeds(index)
        varied = {} if other is None else {"Variation seed": other}
        one = pictures[index]
        score = None if ranking is None else ranking.score(image, one.prompt)
        told = {**varied, **_templates(settings, one), **facts, "Best of": settings.best_of, "CLIP score": score}
        return Picture(index, image, seed, describe(model, one, seed, told), score)

    def job(index: int) -> Job:
        seed, other = settings.seeds(index)
        return way.job(guidance_at(index), seed, known, None if other is None else (other, settings.variation_strength))

    jobs = [partial(job, k) for k in range(settings.draws)]
    height, width = (model.spec.vae.factor * side for side in way.shape[2:])
    at_once = pictures_at_once(width, height, model.device)
    events = run(jobs, finish, lambda: model.preview_colours, at_once)
    return events if ranking is None else ranking.best(events)


def marked(image: Image.Image) -> Image.Image:
    """With Stable Diffusion's invisible watermark, where the picture is large enough to hold it."""
    if watermark.capacity(image.height, image.width) < 8 * len(watermark.DEFAULT):
        return image
    return Image.fromarray(watermark.embed(np.asarray(image)))


def describe(model: StableDiffusion, settings: Settings, seed: int, facts: Facts = NO_FACTS) -> str:
    """The settings of one picture in the community's syntax, with the `facts` of a task."""
    sampler = find_sampler(settings.sampler)
    fields = {
        "Steps": settings.steps,
        "Sampler": f"{sampler.label} CFG++" if settings.cfg_pp else sampler.label,
        "Schedule type": SCHEDULES[settings.schedule].label if settings.sigmas is None else "Custom",
        "Sigmas": settings.sigmas and ", ".join(map(str, settings.sigmas)),
        **{field_of(sampler.name, option): value for option, value in settings.sampler_options.items()},
        "CFG scale": settings.cfg,
        "Seed": seed,
        "Size": f"{settings.width}x{settings.height}",
        "Model hash": model.hash,
        "Model": model.name,
        "Clip skip": settings.clip_skip,
        **settings.guidance_facts(),
        **settings.word_facts(),
        "RNG": settings.rng.upper(),
        "Tiling": {None: None, "both": True}.get(settings.tiling, settings.tiling),
        "Variation seed strength": settings.variation_strength or None,
        "Original size": _by(settings.original_size),
        "Crop": _by(settings.crop),
        "Target size": _by(settings.target_size),
        "Aesthetic score": settings.aesthetic_score,
        **facts,
        "Version": f"sfumato {__version__}",
    }
    return infotext.write(settings.prompt, settings.negative, fields)


def _templates(settings: Settings, one: Settings) -> Facts:
    """What the words of a picture were drawn from by chance."""
    return {
        "Template": settings.prompt if settings.prompt != one.prompt else None,
        "Negative Template": settings.negative if settings.negative != one.negative else None,
    }


def _by(pair: Pair | None) -> str | None:
    return pair and f"{pair[0]}x{pair[1]}"
