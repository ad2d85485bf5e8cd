"""What the network is told: from words and sizes to conditionings, and to the guidance that they give."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sfumato.diffusion.cond import Cond
from sfumato.diffusion.guidance import Guidance
from sfumato.errors import SfumatoError
from sfumato.nets.prior import Underlay
from sfumato.pipeline.guidance import guided
from sfumato.pipeline.latents import encode
from sfumato.pipeline.prompts import PromptConditioning, encode_prompts
from sfumato.settings.settings import Settings
from sfumato.spec import Spec

if TYPE_CHECKING:
    from sfumato.api import StableDiffusion

GOOD, POOR = 6.0, 2.5  # aesthetic scores that the XL refiner is told of a prompt and of a negative one


def guidance(
    model: StableDiffusion,
    settings: Settings,
    sigmas: Tensor,
    concat: Tensor | None = None,
    underlay: Underlay | None = None,
) -> Guidance:
    """How a model draws what the prompt says and not what the negative prompt says, over a list of noise levels.

    See `conditioning` for `concat` and `underlay`, and there and at `guided` for what is raised.
    """
    return guided(model, settings, sigmas, conditioning(model, settings, sigmas, concat, underlay))


def conditioning(
    model: StableDiffusion,
    settings: Settings,
    sigmas: Tensor,
    concat: Tensor | None = None,
    underlay: Underlay | None = None,
) -> PromptConditioning:
    """The prompts of one picture over a list of noise levels, with all else that the model is conditioned on.

    `concat` (1, Ci, h, w) is what a network that works from a picture sees beside the latents; None where there is no
    picture. `underlay` is a picture that is drawn on, for models with a prior. Raises SfumatoError as `encode_prompts`,
    and for a model that cannot do without a picture.
    """
    spec = model.spec
    if concat is None and spec.beside_latents:
        concat = _beside_latents(model, settings)
    scale = torch.tensor([settings.cfg - 1]) if spec.embeds_guidance else None
    good, poor = (
        partial(_with, ids=size_ids(spec, settings, score), concat=concat, scale=scale)
        for score in (settings.aesthetic_score, POOR)
    )
    return encode_prompts(model, settings, sigmas, underlay).map(good, poor)


def _with(cond: Cond, ids: Tensor | None, concat: Tensor | None, scale: Tensor | None) -> Cond:
    """What words say, and sizes, and what the network sees beside the latents: after a prior's draft, if it has one."""
    if concat is None:
        concat = cond.concat
    elif cond.concat is not None:
        concat = torch.cat([cond.concat, concat.to(cond.concat)], 1)
    return replace(cond, ids=ids, concat=concat, guidance=scale)


def size_ids(spec: Spec, settings: Settings, score: float | None) -> Tensor | None:
    """The numbers (1, K) that condition an XL model on a picture's sizes and score; None for other models."""
    drawn = settings.width, settings.height
    numbers = {  # vertical before horizontal
        "original_size": (settings.original_size or drawn)[::-1],
        "crop": (settings.crop or (0, 0))[::-1],
        "target_size": (settings.target_size or drawn)[::-1],
        "aesthetic_score": (GOOD if score is None else score,),
    }
    values = [number for name in spec.micro_conditioning for number in numbers[name]]
    return torch.tensor([values], dtype=torch.float32) if values else None


def _beside_latents(model: StableDiffusion, settings: Settings) -> Tensor:
    """What a network that works from a picture is told where there is none."""
    if model.spec.low_res is not None:
        what = f"{model.name} is {model.spec.title}, which draws a picture larger and nothing from words alone"
        raise SfumatoError(f"{what}; use `sfumato upscale` or sd.upscale")
    if model.spec.depth is None:
        return _nothing_to_keep(model, settings)
    factor = model.spec.vae.factor  # depth runs from -1 to 1: a flat picture half way
    return torch.zeros(1, 1, settings.height // factor, settings.width // factor)


def _nothing_to_keep(model: StableDiffusion, settings: Settings) -> Tensor:
    """What an inpainting model is told when all is to be drawn: a full mask, and the latents of a grey picture."""
    grey = torch.zeros(1, model.spec.vae.in_channels, settings.height, settings.width)
    latents = encode(model.vae, grey)
    return torch.cat([torch.ones_like(latents[:, :1]), latents], 1)
