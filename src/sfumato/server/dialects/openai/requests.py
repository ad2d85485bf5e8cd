"""Turns OpenAI's requests into jobs: which task, at which size, in how many steps."""

from __future__ import annotations

import math
from typing import Any

from sfumato.images.inputs import load_rgba
from sfumato.server.dialects.openai.bodies import Asked, Drawn, Generation
from sfumato.server.jobs.job import JobRequest
from sfumato.server.queue import Queue
from sfumato.spec import Spec

THEIRS = ("dall-e", "gpt-image", "chatgpt-image")  # beginnings of names that mean the server's own model
STEPS = {"low": 0.5, "high": 1.5, "hd": 1.5, "xhigh": 2.0, "max": 2.0}  # times as many as the model's own number
VARIATION, EDIT = 0.6, 0.75  # strengths of img2img
Pair = tuple[int, int]


def model_of(name: str | None, queue: Queue) -> str:
    """Returns the model that a client's name means."""
    return queue.default_model if name is None or name.lower().startswith(THEIRS) else name


def size_of(asked: Asked) -> Pair | None:
    """Returns the width and height that the client wants; None if the model decides."""
    if asked.size in (None, "auto"):
        return None
    width, _, height = str(asked.size).partition("x")
    return int(width), int(height)


def drawn_size(wanted: Pair | None, spec: Spec) -> dict[str, int]:
    """Returns the size to draw: in the aspect ratio of the wanted one, with as many pixels as the model draws best."""
    if wanted is None:
        return {}
    best = spec.defaults.width * spec.defaults.height
    scale, step = math.sqrt(best / (wanted[0] * wanted[1])), spec.multiple
    width, height = (min(spec.max_side, max(step, round(scale * side / step) * step)) for side in wanted)
    return {"width": width, "height": height}


def generation(body: Generation, queue: Queue) -> JobRequest:
    """Returns the request for pictures from words. Raises SfumatoError for an unknown model."""
    model = model_of(body.model, queue)
    spec = queue.desk.spec(model)
    options = {**_options(body, spec), **drawn_size(size_of(body), spec)}
    return JobRequest(kind="txt2img", model=model, prompt=body.prompt, options=options)


def change(body: Asked, image: bytes, mask: bytes | None, queue: Queue) -> tuple[JobRequest, Pair]:
    """Returns the request to change a picture, and the size of the result if the client names none.

    The part that is transparent in the mask, or without a mask in the picture, is drawn anew; without either the whole
    picture. Raises SfumatoError for a wrong model or picture.
    """
    model = model_of(body.model, queue)
    spec, picture = queue.desk.spec(model), load_rgba(image, "image")
    pictures = {"image": queue.inputs.add(image, "image")}
    request = JobRequest(model=model, prompt=getattr(body, "prompt", ""), pictures=pictures)
    if mask is None and (picture.mode != "RGBA" or not isinstance(body, Drawn)):
        options = {**_options(body, spec), **drawn_size(size_of(body) or picture.size, spec)}
        how = {"strength": EDIT if isinstance(body, Drawn) else VARIATION}
        return request.but(kind="img2img", options=options, how=how), picture.size
    if mask is not None:
        pictures["mask"] = queue.inputs.add(mask, "mask")
    return request.but(kind="inpaint", options=_options(body, spec)), picture.size


def _options(body: Asked, spec: Spec) -> dict[str, Any]:
    options: dict[str, Any] = {"n": body.n or 1}
    if (times := STEPS.get(getattr(body, "quality", None) or "")) is not None:
        options["steps"] = max(1, min(spec.noise.steps, round(times * spec.defaults.steps)))
    return options
