"""The one door for pictures that users give: a file, or a picture of Pillow, numpy or torch."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Union, cast

import numpy as np
from PIL import Image, ImageOps

from sfumato.errors import SfumatoError
from sfumato.images.files import check_size, on_white, read_image, upright

if TYPE_CHECKING:
    from torch import Tensor

PictureLike = Union[str, Path, bytes, BinaryIO, Image.Image, np.ndarray, "Tensor"]
"""A file, its bytes, an open file, or numbers: (H, W) or (H, W, C) of numpy, (H, W) or (C, H, W) of torch, C 1, 3 or 4.

Numbers are bytes, 16-bit integers, booleans, or floats from 0 to 1.
"""


def load_image(value: PictureLike, what: str = "the picture") -> Image.Image:
    """What the user gave upright and in RGB; what is transparent becomes white. `what` names it in messages.

    Raises SfumatoError for what is no picture, for numbers that are not finite or out of range, for files that are
    broken or of foreign formats, and for more than MAX_PIXELS.
    """
    return on_white(load_rgba(value, what))


def load_mask(value: PictureLike, what: str = "the mask") -> Image.Image:
    """What is to be drawn, in grey (L): white where all is, black where nothing.

    A picture with transparency is drawn where it is transparent, any other where it is bright. Raises as `load_image`.
    """
    image = load_rgba(value, what)
    return ImageOps.invert(image.getchannel("A")) if image.mode == "RGBA" else image.convert("L")


def split_image_and_mask(picture: PictureLike, mask: PictureLike | None) -> tuple[Image.Image, Image.Image]:
    """A picture in RGB and what of it is to be drawn (L): what `mask` says, or without one what is transparent.

    Raises as `load_image`, and for a picture without transparency that no mask is given for.
    """
    image = load_rgba(picture)
    if mask is None and image.mode != "RGBA":
        raise SfumatoError("the picture has nothing transparent to be drawn; give a mask that is white where to draw")
    return on_white(image), load_mask(image if mask is None else mask)


def load_rgba(value: PictureLike, what: str = "the picture") -> Image.Image:
    """What the user gave upright and in RGB, or in RGBA if any of it is transparent. Raises as `load_image`."""
    if isinstance(value, str | Path):
        return read_image(value)
    if isinstance(value, bytes | bytearray | memoryview):
        value = io.BytesIO(value)
    if isinstance(value, io.IOBase) and value.readable() and not isinstance(value, io.TextIOBase):
        return read_image(cast(BinaryIO, value), what)
    if isinstance(value, Image.Image) and value.mode != "F":
        return _loaded(value, what)
    if isinstance(value, Image.Image | np.ndarray):
        return upright(_of_numbers(np.asarray(value), what))
    if hasattr(value, "detach") and hasattr(value, "cpu"):  # a tensor, without the second that importing torch takes
        tensor = value.detach().cpu()
        numbers = np.asarray(tensor.float() if tensor.is_floating_point() else tensor)
        return upright(_of_numbers(np.moveaxis(numbers, 0, -1) if numbers.ndim == 3 else numbers, what))
    raise SfumatoError(f"{what} is {type(value).__name__}; give a file, bytes, or a picture of Pillow, numpy or torch")


def _loaded(image: Image.Image, what: str) -> Image.Image:
    check_size(*image.size, what)
    try:
        return upright(image)
    except Exception as error:  # Pillow reads a file when its pixels are first asked for, see `opened`
        raise SfumatoError(f"cannot read {what}: {error}; it seems to be damaged") from error


def _of_numbers(numbers: np.ndarray, what: str) -> Image.Image:
    """Numbers (H, W) or (H, W, C), C one of 1, 3, 4, as grey, RGB or RGBA."""
    if numbers.ndim == 3 and numbers.shape[2] == 1:
        numbers = numbers[:, :, 0]
    if numbers.ndim not in (2, 3) or (numbers.ndim == 3 and numbers.shape[2] not in (3, 4)):
        wanted = "numpy's (height, width, 3) or torch's (3, height, width), or 1 or 4 channels"
        raise SfumatoError(f"{what} has the shape {tuple(numbers.shape)}; give {wanted}")
    check_size(numbers.shape[1], numbers.shape[0], what)
    return Image.fromarray(_bytes(numbers, what))


def _bytes(numbers: np.ndarray, what: str) -> np.ndarray:
    if numbers.dtype == np.uint8:
        return np.ascontiguousarray(numbers)
    if numbers.dtype == np.uint16:
        return (numbers / 257).round().astype(np.uint8)
    if numbers.dtype == np.bool_:
        return numbers.astype(np.uint8) * 255
    if numbers.dtype.kind != "f":
        raise SfumatoError(f"{what} has numbers of type {numbers.dtype}; give uint8, uint16 or floats from 0 to 1")
    if not np.isfinite(numbers).all():
        raise SfumatoError(f"{what} has numbers that are not finite (NaN); give floats from 0 to 1")
    if numbers.min() < 0 or numbers.max() > 1:
        span = f"from {numbers.min():g} to {numbers.max():g}"
        raise SfumatoError(f"{what} has numbers {span}; give floats from 0 to 1, or bytes from 0 to 255")
    return (numbers * 255).round().astype(np.uint8)
