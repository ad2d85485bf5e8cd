"""Pictures from a picture and words (SDEdit, Meng et al. 2022)."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from PIL import Image, ImageOps

from sfumato.errors import SfumatoError
from sfumato.nets.prior import Underlay
from sfumato.pipeline.conditioning import guidance
from sfumato.pipeline.depth import depth_of
from sfumato.pipeline.generate import draw
from sfumato.pipeline.latents import Picture, Progress, encode, to_pixels
from sfumato.pipeline.sampling import SamplingRun
from sfumato.settings.checks import check_number
from sfumato.settings.settings import Settings
from sfumato.spec import Spec

if TYPE_CHECKING:
    from sfumato.api import StableDiffusion

STRENGTH = 0.75
Resize = Literal["crop", "stretch", "pad"]


def img2img(
    model: StableDiffusion, image: Image.Image, settings: Settings, strength: float = STRENGTH, resize: Resize = "crop"
) -> Generator[Progress | Picture, None, None]:
    """Draw `settings.n` pictures on top of an RGB picture; yields every step and every finished picture.

    `strength` is the share of the steps, counted from the end, that are taken: 0 gives the picture back as the
    autoencoder has it, 1 begins with noise alone as txt2img does. The picture is brought to the settings' size as
    `resize` says, see `fitted`. A model that is told depth is told that of the picture. Raises SfumatoError at once for
    a strength outside 0 to 1, an unknown way to resize, and as `conditioning`.
    """
    check_strength(strength)
    model = model.seamless(settings.tiling)
    start = fitted(image, settings.width, settings.height, resize)
    way = SamplingRun.of(model, settings).from_strength(strength)
    known = encode(model.vae, to_pixels(start))
    concat = None if model.depth is None else depth_of(model.depth, start, *way.shape[2:])
    return draw(
        model,
        settings,
        way,
        lambda one: guidance(model, one, way.sigmas, concat, Underlay(known, strength=strength)),
        known,
        facts={"Denoising strength": strength},
    )


def check_strength(strength: object) -> None:
    """Raises SfumatoError unless `strength` is a number from 0 to 1."""
    check_number("the strength", strength, 0, 1, STRENGTH)


def fitted(image: Image.Image, width: int, height: int, resize: str) -> Image.Image:
    """The picture at a size in pixels: "crop" cuts what is too much, "stretch" distorts, "pad" adds edges.

    Padding repeats the colours of the outermost pixels. Raises SfumatoError for an unknown way.
    """
    if resize not in get_args(Resize):
        raise SfumatoError(f"unknown way to resize {resize!r}; choose one of {', '.join(get_args(Resize))}")
    size, method = (width, height), Image.Resampling.LANCZOS
    if image.size == size:
        return image
    if resize == "crop":
        return ImageOps.fit(image, size, method)
    if resize == "stretch":
        return image.resize(size, method)
    inner = ImageOps.contain(image, size, method)
    left, top = (width - inner.width) // 2, (height - inner.height) // 2
    return padded(inner, left, top, width - inner.width - left, height - inner.height - top)


def padded(image: Image.Image, left: int, top: int, right: int, bottom: int) -> Image.Image:
    """An RGB picture with so many pixels more on each side, in the colours of the outermost ones."""
    return Image.fromarray(np.pad(np.asarray(image), ((top, bottom), (left, right), (0, 0)), mode="edge"))


def natural_size(image: Image.Image, spec: Spec, whole: Callable[[float], int] = round) -> tuple[int, int]:
    """Width and height of what a model makes of a picture if nobody says: its own, in the multiples that can be drawn.

    `whole` chooses the multiple. Larger pictures are scaled down to four times the area that the model draws by itself,
    beyond which it repeats things.
    """
    most = 4 * spec.defaults.width * spec.defaults.height
    scale = min(1.0, math.sqrt(most / (image.width * image.height)))
    step = spec.multiple
    width, height = (
        min(max(step, whole(scale * side / step) * step), spec.max_side // step * step) for side in image.size
    )
    return width, height
