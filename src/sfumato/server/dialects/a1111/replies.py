"""What is said of finished pictures, as the web UI says it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sfumato import __version__
from sfumato.errors import SfumatoError
from sfumato.provenance import infotext
from sfumato.server.dialects.a1111.bodies import DrawBody
from sfumato.server.jobs.job import Job, SavedPicture

_PLAIN = {
    "Steps", "Sampler", "CFG scale", "Seed", "Size", "Model", "Model hash", "VAE", "VAE hash", "Clip skip",
    "Denoising strength", "Variation seed", "Variation seed strength", "Version",
    "Seed resize from",
}  # fmt: skip
"""Fields of a picture's settings that have a key of their own in the reply."""


@dataclass(frozen=True)
class Drawn:
    """A picture of a reply: its file in base64, and its settings."""

    image: str
    infotext: str


def info(pictures: Sequence[Drawn], body: DrawBody, first: int = 0) -> str:
    """The JSON text about a reply's pictures; `first` is the place of the first that is no sheet."""
    pictures = [one for one in pictures if one.infotext]  # hints, which come after them, have no settings
    told = [infotext.parse(one.infotext) for one in pictures]
    prompt, negative, fields = told[first] if first < len(told) else (body.prompt or "", body.negative_prompt or "", {})
    width, height = _size(fields, body)
    resized = [_whole(side, None) for side in fields.get("Seed resize from", "x").split("x")]
    subseed = _whole(fields.get("Variation seed"), -1)
    return json.dumps({
        "prompt": prompt, "all_prompts": [one[0] for one in told[first:]],
        "negative_prompt": negative, "all_negative_prompts": [one[1] for one in told[first:]],
        "seed": _whole(fields.get("Seed"), body.seed or 0),
        "all_seeds": [_whole(one[2].get("Seed"), 0) for one in told[first:]],
        "subseed": subseed, "all_subseeds": [_whole(one[2].get("Variation seed"), subseed) for one in told[first:]],
        "subseed_strength": _number(fields.get("Variation seed strength"), 0.0),
        "width": width, "height": height, "sampler_name": fields.get("Sampler", body.sampler_name),
        "cfg_scale": _number(fields.get("CFG scale"), body.cfg_scale), "steps": _whole(fields.get("Steps"), body.steps),
        "batch_size": body.batch_size or 1, "restore_faces": False, "face_restoration_model": None,
        "sd_model_name": fields.get("Model"), "sd_model_hash": fields.get("Model hash"),
        "sd_vae_name": fields.get("VAE"), "sd_vae_hash": fields.get("VAE hash"),
        "seed_resize_from_w": resized[0] or -1, "seed_resize_from_h": resized[1] or -1,
        "denoising_strength": _number(fields.get("Denoising strength"), None),
        "extra_generation_params": {name: value for name, value in fields.items() if name not in _PLAIN},
        "index_of_first_image": first, "infotexts": [one.infotext for one in pictures], "styles": body.styles or [],
        "job_timestamp": timestamp(), "clip_skip": _whole(fields.get("Clip skip"), 1),
        "is_using_inpainting_conditioning": False, "version": f"sfumato {__version__}",
    })  # fmt: skip


def parameters(body: DrawBody, pictures: Sequence[Drawn], first: int = 0) -> dict[str, Any]:
    """The request as it came, with what it left to the model."""
    told = body.model_dump(exclude={"sampler_index"} if body.sampler_name else set())
    fields = infotext.parse(pictures[first].infotext)[2] if first < len(pictures) else {}
    width, height = _size(fields, body)
    found = {
        "steps": _whole(fields.get("Steps"), None), "cfg_scale": _number(fields.get("CFG scale"), None),
        "sampler_name": fields.get("Sampler"), "scheduler": fields.get("Schedule type"),
        "width": width, "height": height,
    }  # fmt: skip
    return {**told, **{name: value for name, value in found.items() if told.get(name) is None}}


def timestamp(when: float | None = None) -> str:
    """A time as the web UI writes it."""
    return time.strftime("%Y%m%d%H%M%S", time.localtime(when))


def ordered(job: Job | None) -> list[SavedPicture]:
    """The pictures of a job in order; none of one that was given up before it was queued."""
    return [] if job is None else sorted(job.pictures, key=lambda one: one.index)


def error(status: int, message: str) -> dict[str, Any]:
    """The body of a reply that says what is wrong."""
    kind = SfumatoError.__name__ if status == 400 else "HTTPException"
    return {"error": kind, "detail": message, "body": "", "errors": message}


def _size(fields: dict[str, str], body: DrawBody) -> tuple[int | None, int | None]:
    width, _, height = fields.get("Size", "").partition("x")
    return _whole(width, body.width), _whole(height, body.height)


def _whole(text: str | None, default: Any) -> Any:
    return int(text) if text and text.lstrip("-").isdigit() else default


def _number(text: str | None, default: Any) -> Any:
    try:
        return float(text) if text else default
    except ValueError:
        return default
