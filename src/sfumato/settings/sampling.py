"""The options that every picture has: how it is sampled, how strongly it follows the prompt, its seed and size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from sfumato.diffusion.options import Value, field_of
from sfumato.diffusion.sampler_names import SAMPLER_NAMES, SCHEDULE_NAMES, schedule_name, split_sampler_name
from sfumato.settings.kinds import Assignments, Levels, Named, Number, Seed, Whole
from sfumato.settings.option import MODEL, option
from sfumato.spec import Spec

MAX_SCALE = 1000
MAX_PICTURES = 10_000
SEEDS = Seed()


def _steps(spec: Spec) -> int:
    return spec.noise.steps


def _multiple(spec: Spec) -> int:
    return spec.multiple


def _most(spec: Spec) -> int:
    return spec.max_side


SIDE = Whole(_multiple, _most, _multiple)
SAMPLER = Named(
    lambda name: split_sampler_name(name)[0],
    lambda name: SAMPLER_NAMES[name].label,
    lambda: tuple(SAMPLER_NAMES),
)
SCHEDULE = Named(schedule_name, lambda name: SCHEDULE_NAMES[name].label, lambda: tuple(SCHEDULE_NAMES))


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """What decides every picture. Noise levels are those of `sigmas`, or of `schedule` in so many `steps`."""

    PANEL: ClassVar[str] = "Sampling"

    steps: int = option(
        MODEL, Whole(1, _steps), "Sampling steps.", "Steps", basic=True, also=("num_inference_steps", "sampling_steps")
    )
    sampler: str = option(
        MODEL, SAMPLER, "Sampler, also by the names of web UIs, which may end in the schedule ('DPM++ 2M Karras'); "
        "`sfumato samplers` lists all.", "Sampler", also=("sampler_name", "sampler_index", "sampling_method"),
        write=lambda one: SAMPLER.written(one.sampler) + (" CFG++" if one.cfg_pp else ""),
    )  # fmt: skip
    schedule: str = option(
        MODEL, SCHEDULE, "Schedule of the noise levels, also by the names of web UIs; `sfumato samplers` lists all.",
        "Schedule type", also=("scheduler", "schedule_type", "scheduler_name"),
        write=lambda one: SCHEDULE.written(one.schedule) if one.sigmas is None else "Custom",
    )  # fmt: skip
    sigmas: tuple[float, ...] | None = option(
        None, Levels(), "Noise levels in place of steps and schedule, such as 14.6,7,3,1,0.1,0.", "Sigmas"
    )
    sampler_options: Mapping[str, Value] = option(
        dict, Assignments(), "An option of the sampler or its schedule, such as eta=0.5; `sfumato samplers` lists all.",
        flags=("--set",),
        write=lambda one: {field_of(one.sampler, name): value for name, value in one.sampler_options.items()},
    )  # fmt: skip
    cfg: float = option(
        MODEL, Number(-MAX_SCALE, MAX_SCALE, 7.5), "Guidance scale: how closely to follow the prompt; 1 is none, and "
        "faster.", "CFG scale", basic=True, also=("guidance_scale", "cfg_scale", "scale", "guidance", "true_cfg_scale"),
    )  # fmt: skip
    seed: int = option(
        None, SEEDS, "Seed of the first picture; the next have the numbers after it; below 2^64.", "Seed", basic=True,
        absent="drawn at random", also=("generator", "manual_seed", "noise_seed"),
    )  # fmt: skip
    width: int = option(
        MODEL, SIDE, "Width in pixels.", "Size", flags=(), also=("w",),
        write=lambda one: f"{one.width}x{one.height}",
    )  # fmt: skip
    height: int = option(MODEL, SIDE, "Height in pixels.", flags=(), also=("h",))
    clip_skip: int = option(
        MODEL, Whole(1, 100), "Layer of the text encoder to read, counted from the last, which is 1.", "Clip skip",
        also=("clip_stop_at_last_layers", "CLIP_stop_at_last_layers"),
    )  # fmt: skip
