"""Pictures with the depth of a picture, in other words and colours (Stability AI's depth2img)."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from sfumato.errors import SfumatoError
from sfumato.hub.local_models import EMBEDDED
from sfumato.pipeline.conditioning import guidance
from sfumato.pipeline.depth import depth_of, normalised
from sfumato.pipeline.generate import draw
from sfumato.pipeline.latents import Picture, Progress, encode, to_images, to_pixels
from sfumato.pipeline.sampling import SamplingRun
from sfumato.settings.settings import Settings
from sfumato.tasks.img2img import Resize, check_strength, fitted

if TYPE_CHECKING:
    from sfumato.api import StableDiffusion

STRENGTH = 0.9


def depth2img(
    model: StableDiffusion,
    image: Image.Image | None,
    settings: Settings,
    depth: Image.Image | None = None,
    strength: float = STRENGTH,
    resize: Resize = "crop",
) -> Generator[Progress | Picture, None, None]:
    """Draw `settings.n` pictures of the depth of an RGB picture; yields every step and every finished picture.

    The depth is what the model's own network sees, or a picture of it in which the nearest is brightest. `strength` 1
    takes nothing but the depth, less keeps colours (see `img2img`). Without an `image` there is only the depth. Raises
    SfumatoError at once for a model that is not told depth, and where neither picture is given.
    """
    check_strength(strength)
    if model.spec.depth is None:
        raise SfumatoError(
            f"{model.name} is {model.spec.title}, which is not told depth; give a model that is, such as "
            f"{EMBEDDED}-depth or Stable Diffusion 2.0 depth"
        )
    if image is None:
        if depth is None:
            raise SfumatoError("there is nothing to take depth from; give a picture, or a picture of depth")
        strength = 1.0
    size = settings.width, settings.height
    start = None if image is None else fitted(image, *size, resize)
    way = SamplingRun.of(model, settings).from_strength(strength)
    seen = depth_map(model, start, None if depth is None else fitted(depth, *size, resize), way.shape[2:])
    known = None if start is None else encode(model.vae, to_pixels(start))
    facts = {"Denoising strength": strength, "Depth": "yes"}
    return draw(model, settings, way, lambda one: guidance(model, one, way.sigmas, seen), known, facts=facts)


def depth_map(
    model: StableDiffusion, image: Image.Image | None, depth: Image.Image | None, shape: tuple[int, int]
) -> Tensor:
    """What the model is told (1, 1, h, w) in [-1, 1]: a given picture of depth, else what its network sees."""
    if depth is not None:
        grey = to_pixels(depth).mean(1, keepdim=True)
        return normalised(F.interpolate(grey, shape, mode="area"))
    if model.depth is None or image is None:
        raise SfumatoError(f"{model.name} brings no depth network; give a picture of depth")
    return depth_of(model.depth, image, *shape)


def shown(depth: Tensor, width: int, height: int) -> Image.Image:
    """A map (1, 1, h, w) in [-1, 1] as a picture, the nearest brightest."""
    large = F.interpolate(depth, (height, width), mode="bilinear", align_corners=False)
    return to_images(torch.cat([large] * 3, 1))[0]
