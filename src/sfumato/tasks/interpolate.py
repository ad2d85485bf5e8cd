"""From one picture to another, frame by frame: between prompts, between seeds, or both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from sfumato.diffusion.cond import Cond, ScheduledCond
from sfumato.diffusion.driver import Job
from sfumato.errors import OptionError, SfumatoError
from sfumato.pipeline.conditioning import conditioning
from sfumato.pipeline.events import Events
from sfumato.pipeline.generate import Plan, generate
from sfumato.pipeline.guidance import guided
from sfumato.pipeline.latents import decode
from sfumato.pipeline.model import Model
from sfumato.pipeline.prompts import PromptConditioning
from sfumato.pipeline.sampling import SamplingRun
from sfumato.settings.checks import check_whole
from sfumato.settings.settings import MAX_SEED, Settings
from sfumato.settings.task_options import InterpolateOptions
from sfumato.settings.tensors import NO_TENSORS
from sfumato.spec import Spec
from sfumato.tasks.request import Request, refuse

FRAMES = InterpolateOptions.frames


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


@dataclass(frozen=True, kw_only=True, eq=False)
class InterpolateRequest(Request):
    """The frames of the way through `prompts` and `seeds`; see `interpolate`."""

    prompts: Sequence[str]
    seeds: Sequence[int] = ()
    frames: int = FRAMES
    loop: bool = False

    def settings(self, spec: Spec) -> Settings:
        return Settings.of(spec, self.prompts[0] if self.prompts else "", self.negative, **self.options)

    def draw(self, model: Model, settings: Settings) -> Events:
        each = [Settings.of(model.spec, prompt, self.negative, **self.options).prompt for prompt in self.prompts]
        return interpolate(model, each, settings, self.seeds, self.frames, self.loop)

    def record(self) -> dict[str, Any]:
        return {"prompts": [*self.prompts], "seeds": [*self.seeds], "frames": self.frames, "loop": self.loop}


def interpolate(
    model: Model,
    prompts: Sequence[str],
    settings: Settings,
    seeds: Sequence[int] = (),
    frames: int = FRAMES,
    loop: bool = False,
) -> Events:
    """Draw `frames` pictures on the way through prompts and seeds; yields steps and pictures, `index` being the frame.

    There are as many seeds as prompts, or one (by default the settings') for all of them, or one prompt for all seeds.
    Encoded prompts are mixed on the straight line between them, first noise on the arc. Raises SfumatoError at once for
    other numbers of seeds, fewer than two keys or frames, prompts whose encodings have no place in common, and options
    that this task does not honour.
    """
    refuse(
        settings, "frames are drawn", hires_scale=None, best_of=None, n=1, variation_strength=0.0, tensors=NO_TENSORS
    )
    seeds = seeds or (settings.seed,)
    for k, seed in enumerate(seeds, 1):
        check_whole(f"seed {k}", seed, 0, MAX_SEED - 1)
    keys = max(len(prompts), len(seeds))
    if keys < 2 or {len(prompts), len(seeds)} - {1, keys}:
        raise SfumatoError(
            f"{len(prompts)} prompts and {len(seeds)} seeds lead nowhere; give two or more of one, and one or as many "
            "of the other"
        )
    InterpolateOptions(frames, loop)
    model = model.for_request(settings)
    each = [
        replace(settings, prompt=prompts[k % len(prompts)], seed=seeds[k % len(seeds)]).of_picture(0)
        for k in range(keys)
    ]
    if len({frozenset(use for use in model.adapters.uses(key) if use.changes_network) for key in each}) > 1:
        raise OptionError("the prompts ask for different adapters; give all of them the same, or name them by `lora`")
    run = SamplingRun.of(model, settings)
    conds = [conditioning(model, key, run.sigmas) for key in each]
    plan = frames_between(keys, frames, loop)
    for frame in plan:
        mixed(conds[frame.start], conds[frame.end], 0.5)

    def job(frame: Frame, one: Settings) -> Job:
        cond = mixed(conds[frame.start], conds[frame.end], frame.share)
        return run.job(guided(model, one, run.sigmas, cond), one)

    def metadata(index: int) -> dict[str, object]:
        frame, facts = plan[index], {"Frame": f"{index + 1} of {frames}"}
        if each[frame.start].prompt == each[frame.end].prompt:
            return {**facts}
        return {**facts, "Towards prompt": each[frame.end].prompt, "Prompt share": round(frame.share, 6)}

    pictures = [_one(each[frame.start], each[frame.end], frame.share) for frame in plan]
    frame_of = {id(one): frame for one, frame in zip(pictures, plan, strict=True)}
    drawn = Plan(
        lambda one: job(frame_of[id(one)], one),
        lambda x: decode(model.vae, x),
        (settings.width, settings.height),
        metadata=metadata,
    )
    return generate(model, settings, drawn, pictures)


def _one(start: Settings, end: Settings, share: float) -> Settings:
    """Returns the settings of a frame: those of the key before it, with noise turned towards that of the key after."""
    if start.seed == end.seed or share == 0:
        return replace(start)
    return replace(start, variation_seed=end.seed, variation_strength=share)


def mixed(a: PromptConditioning, b: PromptConditioning, share: float) -> PromptConditioning:
    """Returns the conditioning at `share` of the way from one to another.

    Raises SfumatoError for prompts of different numbers of parts (AND) or windows.
    """
    if len(a.branches) != len(b.branches):
        raise SfumatoError("only prompts with equally many parts (AND) can be mixed; write them alike")
    branches = tuple(
        (_scheduled(one, other, share), (1 - share) * weight + share * their)
        for (one, weight), (other, their) in zip(a.branches, b.branches, strict=True)
    )
    return PromptConditioning(
        branches, _scheduled(a.negative, b.negative, share), a.caption if share < 0.5 else b.caption
    )


def _scheduled(a: ScheduledCond, b: ScheduledCond, share: float) -> ScheduledCond:
    levels = tuple(sorted({*a.levels, *b.levels}, reverse=True))
    conds = tuple(_cond(a.at(level), b.at(level), share) for level in levels or (1.0,))
    return ScheduledCond(levels, conds)


def _cond(a: Cond, b: Cond, share: float) -> Cond:
    if a.shapes != b.shapes:
        raise SfumatoError(
            f"the prompts are {a.tokens.shape[1]} and {b.tokens.shape[1]} tokens long; only prompts of as many windows "
            "can be mixed, so shorten the longer one"
        )
    return Cond.combined([a, b], lambda values: torch.lerp(values[0], values[1], share))
