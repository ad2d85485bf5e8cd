"""Pictures enlarged by their pixels alone, with a network of the ESRGAN kind or a plain filter."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import torch
from PIL import Image

from sfumato import __version__
from sfumato.errors import SfumatoError
from sfumato.images.files import MAX_PIXELS
from sfumato.loading.upscalers import PixelUpscaler
from sfumato.nets.tiles import tiles
from sfumato.pipeline.events import Drawing, Events, Picture, Progress
from sfumato.provenance import infotext
from sfumato.runtime.device import memory_for
from sfumato.settings.checks import check_number

SIDE = 256  # of a tile, in pixels of the small picture
MAX_SCALE = 16.0


def large_size(image: Image.Image, scale: float) -> tuple[int, int]:
    """Width and height of a picture `scale` times as wide and high.

    Raises SfumatoError for a scale that is no number from 1 to MAX_SCALE, and for more than MAX_PIXELS.
    """
    check_number("the scale", scale, 1, MAX_SCALE, 2)
    width, height = (round(scale * side) for side in image.size)
    if width * height > MAX_PIXELS:
        size = f"the picture would have {width}x{height} pixels"
        raise SfumatoError(f"{size}; the limit is {MAX_PIXELS:,}; choose a smaller scale")
    return width, height


def by_pixels(image: Image.Image, upscaler: PixelUpscaler, scale: float | None = None, text: str = "") -> Events:
    """The picture `scale` times as wide and high, by default as the upscaler makes it; yields tiles, then the picture.

    `text` is the infotext of the small picture, to which the large one's adds how it was enlarged. Raises SfumatoError
    as `large_size` and `resized`.
    """
    scale = float(upscaler.scale) if scale is None else scale
    size = large_size(image, scale)

    def work() -> Drawing:
        large = yield from _resized(image, *size, upscaler)
        yield Picture(0, large, 0, _described(text, upscaler, scale, size))

    return Events(work())


def _described(text: str, upscaler: PixelUpscaler, scale: float, size: tuple[int, int]) -> str:
    prompt, negative, fields = infotext.parse(text)
    fields |= {"Postprocess upscale by": f"{scale:g}", "Postprocess upscaler": upscaler.name}
    fields |= {"Size": f"{size[0]}x{size[1]}", "Version": f"sfumato {__version__}"}
    return infotext.write(prompt, negative, fields)


def resized(image: Image.Image, width: int, height: int, upscaler: PixelUpscaler | None = None) -> Image.Image:
    """Resizes an RGB picture to a size in pixels: passes of an upscaler until it is large enough, then Lanczos' filter.

    Raises SfumatoError where memory runs out or the network overflows.
    """
    steps = _resized(image, width, height, upscaler)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value


def enlarged(image: Image.Image, upscaler: PixelUpscaler) -> Image.Image:
    """Runs one pass of the network on an RGB picture and returns the result; raises as `resized`."""
    return resized(image, upscaler.scale * image.width, upscaler.scale * image.height, upscaler)


def _resized(
    image: Image.Image, width: int, height: int, upscaler: PixelUpscaler | None
) -> Generator[Progress, None, Image.Image]:
    if upscaler is not None:
        image = yield from _pass(image, upscaler)
        while upscaler.scale > 1 and (image.width < width or image.height < height):
            image = yield from _pass(image, upscaler)
    return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.LANCZOS)


def _pass(image: Image.Image, upscaler: PixelUpscaler) -> Generator[Progress, None, Image.Image]:
    scale, step = upscaler.scale, upscaler.multiple
    padding = ((0, -image.height % step), (0, -image.width % step), (0, 0))
    small = torch.from_numpy(np.pad(np.asarray(image), padding, mode="edge")).permute(2, 0, 1)
    large = np.empty((scale * small.shape[1], scale * small.shape[2], 3), np.uint8)
    result = torch.from_numpy(large).permute(2, 0, 1)
    cut = tiles(small.shape[1:], SIDE // step * step, upscaler.halo)
    for done, tile in enumerate(cut, 1):
        with memory_for("for this upscaler; use float16 on a GPU"), torch.no_grad():
            x = tile.seen(small)[None].to(upscaler.device, upscaler.dtype) / 255
            y = tile.inner(upscaler.network(x)[0].float())
        if not torch.stack(torch.aminmax(y)).isfinite().all():
            raise SfumatoError(f"{upscaler.name} overflows in {upscaler.dtype}; load it as float32")
        tile.place(result, small.shape[1:]).copy_(y.clamp(0, 1).mul_(255).round_())
        yield Progress(0, done, len(cut), lambda: image)
    return Image.fromarray(large[: scale * image.height, : scale * image.width])
