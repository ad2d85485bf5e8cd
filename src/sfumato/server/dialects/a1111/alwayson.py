"""Scripts of the web UI that a request may give besides the one that it chooses: `alwayson_scripts`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import HTTPException

from sfumato.server.dialects.a1111.bodies import DrawBody, Img2ImgBody
from sfumato.server.dialects.a1111.common import Asked, refuse
from sfumato.server.dialects.a1111.units import steering
from sfumato.server.jobs.job import JobRequest

Arguments = Sequence[Any]


@dataclass(frozen=True)
class Added:
    """A body as scripts changed it, and what they add: options, those of the task itself, jobs after the pictures."""

    body: DrawBody
    options: Mapping[str, Any] = field(default_factory=dict)
    how: Mapping[str, Any] = field(default_factory=dict)
    after: tuple[JobRequest, ...] = ()


def _controlnet(body: DrawBody, asked: Asked, values: Arguments) -> Added:
    options, shown = steering([one for one in values if one is not None], body, asked)
    return Added(body, options, after=tuple(shown))


def _refiner(body: DrawBody, asked: Asked, values: Arguments) -> Added:
    enabled, checkpoint, switch_at = (*values, None, None, None)[:3]
    changed = {"refiner_checkpoint": checkpoint, "refiner_switch_at": switch_at} if enabled else {}
    return Added(body.changed(**changed))


def _seed(body: DrawBody, asked: Asked, values: Arguments) -> Added:
    seed, extra, *others = (*values, *(None,) * 6)[:6]
    changed = {"seed": seed} if isinstance(seed, int) and seed != -1 else {}
    if extra:
        names = ("subseed", "subseed_strength", "seed_resize_from_w", "seed_resize_from_h")
        changed |= dict(zip(names, others, strict=True))
    return Added(body.changed(**changed))


def _sampler(body: DrawBody, asked: Asked, values: Arguments) -> Added:
    names = ("steps", "sampler_name", "scheduler")
    return Added(body.changed(**{name: one for name, one in zip(names, values, strict=False) if one is not None}))


def _soft_inpainting(body: DrawBody, asked: Asked, values: Arguments) -> Added:
    on = bool(values and values[0])
    if on and not (isinstance(body, Img2ImgBody) and body.mask):
        raise refuse("Soft inpainting", "it needs a mask; send one, or leave the script out")
    return Added(body, how={"soft": True} if on else {})


ALWAYS_ON: dict[str, Callable[[DrawBody, Asked, Arguments], Added]] = {
    "controlnet": _controlnet,
    "refiner": _refiner,
    "seed": _seed,
    "sampler": _sampler,
    "soft inpainting": _soft_inpainting,
}
"""The scripts that are here, by their names in lower case."""
HARMLESS = ("comments", "extra options", "hypertile", "api payload", "controlnet m2m")
"""Scripts that clients add and that do nothing here: they change no picture, or only how fast it is drawn."""


def always_on(body: DrawBody, asked: Asked) -> Added:
    """The body as its scripts change it, and what they add. Raises HTTPException 422 for a script that is not here."""
    added = Added(body)
    for name, given in (body.alwayson_scripts or {}).items():
        values = given.get("args") if isinstance(given, Mapping) else given
        known = name.strip().lower()
        if known in HARMLESS:
            continue
        if known not in ALWAYS_ON:
            raise HTTPException(422, f"always on script {name[:80]} not found: there are {', '.join(ALWAYS_ON)}")
        listed = [*values.values()] if isinstance(values, Mapping) else values or []
        if not isinstance(listed, list):
            raise refuse(name[:80], 'its arguments are no list; send {"args": [...]}')
        one = ALWAYS_ON[known](added.body, asked, listed)
        options, how = {**added.options, **one.options}, {**added.how, **one.how}
        added = Added(one.body, options, how, (*added.after, *one.after))
    return added
