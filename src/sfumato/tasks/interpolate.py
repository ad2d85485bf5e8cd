"""From one picture to another, frame by frame: between prompts, between seeds, or both."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sfumato.diffusion.cond import Cond, ScheduledCond
from sfumato.diffusion.driver import Job
from sfumato.errors import SfumatoError
from sfumato.pipeline.conditioning import conditioning
from sfumato.pipeline.generate import describe, marked
from sfumato.pipeline.guidance import guided
from sfumato.pipeline.latents import Picture, Progress, decode, run
from sfumato.pipeline.prompts import PromptConditioning
from sfumato.pipeline.sampling import SamplingRun
from sfumato.runtime.device import pictures_at_once
from sfumato.settings.checks import check_whole
from sfumato.settings.settings import MAX_PICTURES, MAX_SEED, Settings

if TYPE_CHECKING:
    from sfumato.api import StableDiffusion

FRAMES = 24


@dataclass(frozen=True)
class Frame:
    """A frame at `share` of the way from key `start` to key `end`; a key is a prompt with a seed."""

    start: int
    end: int
    share: float


def frames_between(keys: int, frames: int, loop: bool) -> list[Frame]:
    """Frames evenly spread over the keys, from the first to the last; a loop goes back to the first and stops short
    of it."""
    ways = keys if loop else keys - 1
    length = frames if loop else frames - 1
    result = []
    for k in range(frames):
        start = min(k * ways // length, ways - 1)
        result.append(Frame(start, (start + 1) % keys, k * ways / length - start))
    return result


def interpolate(
    model: StableDiffusion,
    prompts: Sequence[str],
    settings: Settings,
    seeds: Sequence[int] = (),
    frames: int = FRAMES,
    loop: bool = False,
) -> Generator[Progress | Picture, None, None]:
    """Draw `frames` pictures on the way through prompts and seeds; yields steps and pictures, `index` being the frame.

    There are as many seeds as prompts, or one (by default the settings') for all of them, or one prompt for all seeds.
    Encoded prompts are mixed on the straight line between them, first noise on the arc. Raises SfumatoError at once for
    other numbers of seeds, fewer than two keys or frames, and prompts whose encodings have no place in common.
    """
    seeds = seeds or (settings.seed,)
    for k, seed in enumerate(seeds, 1):
        check_whole(f"seed {k}", seed, 0, MAX_SEED - 1)
    keys = max(len(prompts), len(seeds))
    if keys < 2 or {len(prompts), len(seeds)} - {1, keys}:
        raise SfumatoError(
            f"{len(prompts)} prompts and {len(seeds)} seeds lead nowhere; give two or more of one, and one or as many "
            "of the other"
        )
    check_whole("frames", frames, 2, MAX_PICTURES)
    if settings.hires_scale is not None or settings.best_of is not None:
        raise SfumatoError("frames have no second pass and are not chosen from; leave hires_scale and best_of out")
    model = model.seamless(settings.tiling)
    each = [
        replace(settings, prompt=prompts[k % len(prompts)], seed=seeds[k % len(seeds)]).of_picture(0)
        for k in range(keys)
    ]
    way = SamplingRun.of(model, settings)
    told = [conditioning(model, key, way.sigmas) for key in each]
    plan = frames_between(keys, frames, loop)
    for frame in plan:
        mixed(told[frame.start], told[frame.end], 0.5)

    def job(frame: Frame) -> Job:
        start, end = each[frame.start], each[frame.end]
        guide = guided(model, settings, way.sigmas, mixed(told[frame.start], told[frame.end], frame.share))
        return way.job(guide, start.seed, variation=(end.seed, frame.share) if start.seed != end.seed else None)

    def finish(index: int, x: Tensor) -> Picture:
        frame = plan[index]
        start, end = each[frame.start], each[frame.end]
        facts: dict[str, object] = {"Frame": f"{index + 1} of {frames}"}
        if start.seed != end.seed:
            facts |= {"Variation seed": end.seed, "Variation seed strength": round(frame.share, 6)}
        if start.prompt != end.prompt:
            facts |= {"Towards prompt": end.prompt, "Prompt share": round(frame.share, 6)}
        image = decode(model.vae, way.final_latents(x))
        return Picture(
            index,
            marked(image) if settings.watermark else image,
            start.seed,
            describe(model, start, start.seed, facts),
        )

    jobs = [partial(job, frame) for frame in plan]
    at_once = pictures_at_once(settings.width, settings.height, model.device)
    return run(jobs, finish, lambda: model.preview_colours, at_once)


def mixed(a: PromptConditioning, b: PromptConditioning, share: float) -> PromptConditioning:
    """What lies at `share` of the way from one conditioning to another.

    Raises SfumatoError for prompts of different numbers of parts (AND) or windows.
    """
    if len(a.branches) != len(b.branches):
        raise SfumatoError("only prompts with equally many parts (AND) can be mixed; write them alike")
    branches = tuple(
        (_course(one, other, share), (1 - share) * weight + share * their)
        for (one, weight), (other, their) in zip(a.branches, b.branches, strict=True)
    )
    return PromptConditioning(branches, _course(a.negative, b.negative, share), a.caption if share < 0.5 else b.caption)


def _course(a: ScheduledCond, b: ScheduledCond, share: float) -> ScheduledCond:
    levels = tuple(sorted({*a.levels, *b.levels}, reverse=True))
    conds = tuple(_cond(a.at(level), b.at(level), share) for level in levels or (1.0,))
    return ScheduledCond(levels, conds)


def _cond(a: Cond, b: Cond, share: float) -> Cond:
    if a.shapes != b.shapes:
        raise SfumatoError(
            f"the prompts are {a.tokens.shape[1]} and {b.tokens.shape[1]} tokens long; only prompts of as many windows "
            "can be mixed, so shorten the longer one"
        )
    values = {f.name: (getattr(a, f.name), getattr(b, f.name)) for f in fields(Cond)}
    return Cond(**{name: torch.lerp(one, other, share) for name, (one, other) in values.items() if one is not None})
