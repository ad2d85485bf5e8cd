"""Pictures brought to the size at which they are drawn."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageOps

from sfumato.errors import SfumatoError
from sfumato.spec import Spec

Resize = Literal["crop", "stretch", "pad"]


def fitted(
    image: Image.Image, width: int, height: int, resize: str, method: Image.Resampling = Image.Resampling.LANCZOS
) -> Image.Image:
    """The picture at a size in pixels: "crop" cuts what is too much, "stretch" distorts, "pad" adds edges.

    Padding repeats the colours of the outermost pixels. Raises SfumatoError for an unknown way.
    """
    if resize not in get_args(Resize):
        raise SfumatoError(f"unknown way to resize {resize!r}; choose one of {', '.join(get_args(Resize))}")
    size = width, height
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
