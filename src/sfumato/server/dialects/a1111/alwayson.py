"""Scripts of the web UI that a request may give besides the one that it chooses: `alwayson_scripts`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi import HTTPException

from sfumato.server.dialects.a1111.bodies import DrawBody, Img2ImgBody
from sfumato.server.dialects.a1111.common import Asked, refuse
from sfumato.server.dialects.a1111.units import steering

Result = tuple[DrawBody, dict[str, Any], dict[str, Any]]
"""The body as a script changed it, the options it adds, and those of the task itself."""
Arguments = Sequence[Any]


def _controlnet(body: DrawBody, asked: Asked, values: Arguments) -> Result:
    return body, steering([one for one in values if one is not None], body, asked), {}


def _refiner(body: DrawBody, asked: Asked, values: Arguments) -> Result:
    enabled, checkpoint, switch_at = (*values, None, None, None)[:3]
    changed = {"refiner_checkpoint": checkpoint, "refiner_switch_at": switch_at} if enabled else {}
    return body.changed(**changed), {}, {}


def _seed(body: DrawBody, asked: Asked, values: Arguments) -> Result:
    seed, extra, subseed, strength = (*values, None, None, None, None)[:4]
    changed = {"seed": seed} if isinstance(seed, int) and seed != -1 else {}
    if extra:
        changed |= {"subseed": subseed, "subseed_strength": strength}
    return body.changed(**changed), {}, {}


def _sampler(body: DrawBody, asked: Asked, values: Arguments) -> Result:
    names = ("steps", "sampler_name", "scheduler")
    changed = {name: value for name, value in zip(names, values, strict=False) if value is not None}
    return body.changed(**changed), {}, {}


def _soft_inpainting(body: DrawBody, asked: Asked, values: Arguments) -> Result:
    on = bool(values and values[0])
    if on and not (isinstance(body, Img2ImgBody) and body.mask):
        raise refuse("Soft inpainting", "it needs a mask; send one, or leave the script out")
    return body, {}, {"soft": True} if on else {}


ALWAYS_ON: dict[str, Callable[[DrawBody, Asked, Arguments], Result]] = {
    "controlnet": _controlnet,
    "refiner": _refiner,
    "seed": _seed,
    "sampler": _sampler,
    "soft inpainting": _soft_inpainting,
}
"""The scripts that are here, by their names in lower case."""
HARMLESS = ("comments", "extra options", "hypertile", "api payload", "controlnet m2m")
"""Scripts that clients add and that do nothing here: they change no picture, or only how fast it is drawn."""


def always_on(body: DrawBody, asked: Asked) -> Result:
    """The body as its scripts change it, and what they add to the options.

    Raises HTTPException 422 for a script that is not here.
    """
    more: dict[str, Any] = {}
    how: dict[str, Any] = {}
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
        body, options, own = ALWAYS_ON[known](body, asked, listed)
        more, how = {**more, **options}, {**how, **own}
    return body, more, how
