"""Shows a picture to a model of unCLIP: CLIP's vector of it, under as much noise as the user asks for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from sfumato.diffusion.noise_schedule import alphas_cumprod
from sfumato.diffusion.rng import NoiseStream
from sfumato.errors import OptionError
from sfumato.images.inputs import load_image
from sfumato.loading.image_encoders import ImageEncoder
from sfumato.nets.unclip import VectorStatistics
from sfumato.nets.unet import sinusoidal
from sfumato.pipeline.model import Model
from sfumato.pipeline.prompts import PromptConditioning
from sfumato.settings.settings import Settings


@torch.no_grad()
def with_picture_vector(model: Model, one: Settings, prompts: PromptConditioning) -> PromptConditioning:
    """Adds the vector of `image_prompt` and its noise level (`Cond.pooled`, (1, 2 D)); zeros to the negative prompt.

    The noise is the first of the picture's seed. Conditioning of other models stays as it is. Raises SfumatoError where
    no picture is given, or one that cannot be read.
    """
    tower, noise = model.image, model.spec.image_noise
    if tower is None or noise is None:
        return prompts
    if one.image_prompt is None:
        raise OptionError(f"{model.name} is {model.spec.title}, which varies a picture; give one with `image_prompt`")
    vector = ImageEncoder(tower)(load_image(one.image_prompt, "the picture of image_prompt")).vector.float().cpu()
    added = NoiseStream(one.seed, tuple(vector.shape), source=one.rng).normal()
    statistics = model.statistics or VectorStatistics(vector.shape[1])
    kept = alphas_cumprod(noise)[one.image_noise].float()
    level = sinusoidal(torch.tensor([one.image_noise]), vector.shape[1]).float()
    pooled = torch.cat([statistics.noised(vector, kept, added), level], 1)
    return prompts.map(
        lambda cond: replace(cond, pooled=pooled), lambda cond: replace(cond, pooled=torch.zeros_like(pooled))
    )


def described(one: Settings) -> str | None:
    """The field of a picture's settings that says what it varies."""
    if one.image_prompt is None:
        return None
    named = Path(one.image_prompt).name if isinstance(one.image_prompt, str) else "a picture"
    return f"{named}, noise {one.image_noise}"
