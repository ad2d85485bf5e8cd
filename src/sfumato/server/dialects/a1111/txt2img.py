"""From a body of /txt2img to a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sfumato.server.dialects.a1111.bodies import Txt2ImgBody
from sfumato.server.dialects.a1111.common import Asked, drawable, is_none, refuse, request_of
from sfumato.server.dialects.a1111.local import LocalFiles
from sfumato.server.jobs.job import JobRequest
from sfumato.settings.settings import Pair

LATENT_MODES = (
    "Latent", "Latent (antialiased)", "Latent (bicubic)", "Latent (bicubic antialiased)", "Latent (nearest)",
    "Latent (nearest-exact)",
)  # fmt: skip
"""Ways to enlarge latents that clients name; here they are one, bilinear."""
FILTERS = ("None", "Lanczos", "Nearest")
"""Ways to enlarge pixels without a network; None is Lanczos' filter, as in the web UI."""
STRENGTH = 0.75  # where a client says none, as in the web UI


def txt2img(body: Txt2ImgBody, asked: Asked, more: Mapping[str, Any]) -> JobRequest:
    """The request that a body means; `more` are options that scripts add. Raises SfumatoError, HTTPException."""
    request = request_of(body, asked, "txt2img", more)
    if not body.enable_hr:
        return request
    return request.but(options={**request.options, **_hires(body, asked, dict(request.options))})


def _hires(body: Txt2ImgBody, asked: Asked, options: dict[str, Any]) -> dict[str, Any]:
    if not is_none(body.hr_checkpoint_name) and asked.files.find(body.hr_checkpoint_name or "").name != asked.model:
        raise refuse("hr_checkpoint_name", "the second pass draws with the model of the first; leave it out")
    first, scale = _sizes(body, asked, options)
    found: dict[str, Any] = {
        "hires_scale": scale, "hires_steps": body.hr_second_pass_steps or None,
        "hires_strength": STRENGTH if body.denoising_strength is None else body.denoising_strength,
        "hires_upscaler": hires_upscaler(body.hr_upscaler, asked.files), "width": first[0], "height": first[1],
        "hires_sampler": None if is_none(body.hr_sampler_name) else body.hr_sampler_name,
        "hires_schedule": None if is_none(body.hr_scheduler) else body.hr_scheduler,
        "hires_prompt": body.hr_prompt or None, "hires_negative": body.hr_negative_prompt or None,
    }  # fmt: skip
    return {name: value for name, value in found.items() if value is not None}


def _sizes(body: Txt2ImgBody, asked: Asked, options: dict[str, Any]) -> tuple[Pair, float]:
    """The size of the first pass, and how many times as wide and high the second is."""
    defaults = asked.spec.defaults
    first = options.get("width", defaults.width), options.get("height", defaults.height)
    goal = body.hr_resize_x or 0, body.hr_resize_y or 0
    if body.firstphase_width and body.firstphase_height:  # of old clients: the size is then that of the second pass
        goal = first
        first = drawable(body.firstphase_width, asked.step), drawable(body.firstphase_height, asked.step)
    if goal == (0, 0):
        return first, body.hr_scale or 2
    scales = [wanted / have for wanted, have in zip(goal, first, strict=True) if wanted]
    if max(scales) / min(scales) > 1.1:
        raise refuse("hr_resize_x, hr_resize_y", "the second pass has the shape of the first; give one of them, or 0")
    return first, sum(scales) / len(scales)


def hires_upscaler(name: str | None, files: LocalFiles) -> str:
    """What enlarges for the second pass, as `hires_upscaler` has it. Raises SfumatoError for what is not here."""
    if name is None or name in LATENT_MODES:
        return "latent"
    if name == "Nearest":
        raise refuse("hr_upscaler", "Nearest enlarges finished pictures only (/extra-single-image); send Lanczos")
    if name in FILTERS:
        return "lanczos"
    return files.find(name, "upscaler", "upscaler").name
