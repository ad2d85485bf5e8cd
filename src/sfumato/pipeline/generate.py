"""Draws pictures for every task: the one loop over jobs, and what is done with each picture at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod
from types import MappingProxyType
from typing import TypeVar

from PIL import Image
from torch import Tensor

from sfumato.diffusion.driver import Event, Failed, Finished, Job, Step, collected, emitting
from sfumato.diffusion.guidance import Guidance
from sfumato.errors import warn
from sfumato.images.drawn import DrawnImage
from sfumato.pipeline.events import Drawing, Events, Picture, Progress
from sfumato.pipeline.latents import decode
from sfumato.pipeline.metadata import describe
from sfumato.pipeline.model import Model
from sfumato.pipeline.ranking import Ranking
from sfumato.pipeline.safety import blanked, safety_check
from sfumato.pipeline.sampling import SamplingRun
from sfumato.provenance.watermark import mark
from sfumato.runtime.device import memory_for, pictures_at_once
from sfumato.settings.settings import Pair, Settings

Metadata = Mapping[str, object]
Postprocess = Callable[[Image.Image], Image.Image]
NOTHING: Metadata = MappingProxyType({})
Made = TypeVar("Made")
ROWS_OF_PICTURE = 2  # with and without the prompt
MAX_KEPT = 32  # conditionings of different words


@dataclass(frozen=True, eq=False)
class Plan:
    """Says how a task draws; `generate` carries it out.

    `job` starts the sampler on one picture, given that picture's own settings: its prompts without chance, its seeds,
    its size. `finish` makes a picture of what the job returns. `size` is the (width, height) in pixels that is drawn
    at once. `restore_unmasked` puts back, after the watermark, what must not change. `metadata` are the task's own
    fields of a picture's description, or a function that gives them by the picture's index. `in_latents`
    says whether what the job returns are the latents (1, C, h, w) of the picture.
    """

    job: Callable[[Settings], Job]
    finish: Callable[[Tensor], Image.Image]
    size: Pair
    restore_unmasked: Postprocess | None = None
    metadata: Metadata | Callable[[int], Metadata] = field(default_factory=dict)
    in_latents: bool = False

    @classmethod
    def of(
        cls,
        model: Model,
        run: SamplingRun,
        guidance: Callable[[Settings], Guidance],
        init_latents: Tensor | None = None,
        *,
        postprocess: Postprocess | None = None,
        restore_unmasked: Postprocess | None = None,
        metadata: Metadata | Callable[[int], Metadata] = NOTHING,
    ) -> Plan:
        """Returns the plan of one sampling run, from noise or over a picture's latents `init_latents` (1, C, h, w).

        `guidance` makes what a picture is drawn with from its settings, see `per_picture`. `postprocess` changes a
        picture after it is decoded, before the watermark.
        """
        guidance = per_picture(model, guidance)

        def job(one: Settings) -> Job:
            return run.job(guidance(one), one, init_latents)

        def finish(x: Tensor) -> Image.Image:
            image = decode(model.vae, x)
            return image if postprocess is None else postprocess(image)

        height, width = (model.spec.vae.factor * side for side in run.shape[2:])
        return cls(job, finish, (width, height), restore_unmasked, metadata, in_latents=True)


def per_picture(model: Model, make: Callable[[Settings], Made]) -> Callable[[Settings], Made]:
    """Wraps `make` so that it is called once for all pictures that are conditioned alike.

    Pictures of equal prompts are; with a prior, which decides from a picture's seed and size what its prompt leaves
    open, or a picture that is varied under the seed's noise, only those of equal seeds and sizes as well. Everything
    that tasks make of prompts goes through here.
    """
    by_seed = model.spec.prior is not None or model.spec.image is not None
    kept: dict[tuple[object, ...], Made] = {}

    def made(one: Settings) -> Made:
        key = (
            one.prompt,
            one.negative,
            one.hires_prompt,
            one.hires_negative,
            *((one.seed, one.width, one.height) if by_seed else ()),
        )
        if key not in kept:
            if len(kept) >= MAX_KEPT:
                kept.pop(next(iter(kept)))
            kept[key] = make(one)
        return kept[key]

    return made


def generate(model: Model, settings: Settings, plan: Plan, pictures: Sequence[Settings] | None = None) -> Events:
    """Draw pictures as a task plans it; yields every step and every finished picture.

    `pictures` are the settings of each, by default `settings.n` with seeds seed, seed + 1 ... With `settings.best_of`
    so many are drawn, and the best come when all are finished (see `ranking`). What `plan.job` raises for the first
    picture is raised at once. Closing the iterator cancels what is not finished. The error of a picture that fails is
    raised when it happens: SfumatoError where memory ran out.
    """
    templates = settings if pictures is None else None
    if pictures is None:
        pictures = [settings.of_picture(index) for index in range(settings.draws)]
    model.check_files()
    if model.planned is not None and prod(plan.size) > prod(model.planned):
        sizes = ["x".join(map(str, size)) for size in (model.planned, plan.size)]
        warn(f"memory was planned for pictures of {sizes[0]}; those of {sizes[1]} take more than the limit")
    assert settings.tiling == model.key.tiling, "a task draws on the view that tiles, or refuses tiling"
    ranking, check = Ranking.of(model, settings), safety_check(model, settings)
    jobs: list[Callable[[], Job]] = [partial(plan.job, one) for one in pictures]
    first = jobs[0]()
    jobs[0] = lambda: first

    def finish(index: int, x: Tensor) -> Picture:
        one, image = pictures[index], plan.finish(x)
        if settings.watermark:
            image = mark(image)
        if plan.restore_unmasked is not None:
            image = plan.restore_unmasked(image)
        blank = None if check is None else blanked(check, image, one.seed)
        image = image if blank is None else blank
        score = None if ranking is None else ranking.score(image, one.prompt)
        own = plan.metadata(index) if callable(plan.metadata) else plan.metadata
        told = {**_templates(templates, one), **own, "Best of": settings.best_of}
        if ranking is not None and score is not None:
            told |= ranking.facts(score)
        if blank is not None:
            told["Safety checker"] = "blanked"
        text = describe(model, one, told)
        latents = x if plan.in_latents and blank is None else None
        return Picture(index, DrawnImage.of(image, text), one.seed, text, score, latents)

    at_once = pictures_at_once(*plan.size, model.device)
    drawing = _drawing(jobs, finish, model.preview, at_once)
    return Events(drawing if ranking is None else ranking.best(drawing), ROWS_OF_PICTURE * at_once)


def _templates(templates: Settings | None, one: Settings) -> Metadata:
    """Returns the templates from which chance drew a picture's prompts, where there are any."""
    if templates is None:
        return NOTHING
    return {
        "Template": templates.prompt if templates.prompt != one.prompt else None,
        "Negative Template": templates.negative if templates.negative != one.negative else None,
    }


def run(
    jobs: Sequence[Callable[[], Job]],
    finish: Callable[[int, Tensor], Picture],
    preview: Callable[[Tensor], Image.Image],
    at_once: int,
) -> Events:
    """Run `jobs` to their end, `at_once` side by side; yields a `Progress` a step, and what `finish` makes of each end.

    For what is no picture with settings; tasks call `generate`. Raises as `generate`.
    """
    return Events(_drawing(jobs, finish, preview, at_once), ROWS_OF_PICTURE * at_once)


def _drawing(
    jobs: Sequence[Callable[[], Job]],
    finish: Callable[[int, Tensor], Picture],
    preview: Callable[[Tensor], Image.Image],
    at_once: int,
) -> Drawing:
    def picture_of(start: int, event: tuple[int, Event]) -> Iterator[Progress | Picture]:
        match event:
            case number, Step(index=index, total=total, sigma=sigma, x=x, x0=x0):
                yield Progress(start + number, index + 1, total, partial(preview, x0), sigma, x, x0)
            case number, Finished(x=x):
                yield finish(start + number, x)
            case _, Failed(error=error):
                raise error

    with memory_for("for pictures of this size; draw smaller ones"):
        for start in range(0, len(jobs), at_once):
            group = [job() for job in jobs[start : start + at_once]]
            yield from emitting(collected(group), partial(picture_of, start))
