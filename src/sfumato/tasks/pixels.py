"""Pictures made larger by their pixels alone, with a network of the ESRGAN kind or a plain filter."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

from sfumato.errors import SfumatoError
from sfumato.nets.tiles import tiles
from sfumato.runtime.device import memory_for
from sfumato.weights.upscalers import PixelUpscaler

SIDE = 256  # of a tile, in pixels of the small picture


def resized(
    image: Image.Image,
    width: int,
    height: int,
    upscaler: PixelUpscaler | None = None,
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> Image.Image:
    """An RGB picture at another size in pixels, by Lanczos' filter after as many passes of an upscaler as it takes.

    `watch` is told how many tiles of a pass are done, and of how many. Raises SfumatoError where memory runs out or the
    network overflows.
    """
    passes = 0
    while upscaler is not None and (passes == 0 or image.width < width or image.height < height):
        image = enlarged(image, upscaler, watch)
        passes += 1
        if upscaler.scale == 1:
            break
    return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.LANCZOS)


@torch.no_grad()
def enlarged(
    image: Image.Image, upscaler: PixelUpscaler, watch: Callable[[int, int], None] = lambda done, total: None
) -> Image.Image:
    """One pass of the network, tile by tile in constant memory; see `resized`."""
    scale, step = upscaler.scale, upscaler.multiple
    padding = ((0, -image.height % step), (0, -image.width % step), (0, 0))
    small = torch.from_numpy(np.pad(np.asarray(image), padding, mode="edge")).permute(2, 0, 1)
    large = np.empty((scale * small.shape[1], scale * small.shape[2], 3), np.uint8)
    result = torch.from_numpy(large).permute(2, 0, 1)
    cut = tiles(small.shape[1:], SIDE // step * step, upscaler.halo)
    with memory_for("for this upscaler; use float16 on a GPU"):
        for done, tile in enumerate(cut, 1):
            x = tile.seen(small)[None].to(upscaler.device, upscaler.dtype) / 255
            y = tile.inner(upscaler.network(x)[0].float())
            if not torch.stack(torch.aminmax(y)).isfinite().all():
                raise SfumatoError(f"{upscaler.name} overflows in {upscaler.dtype}; load it as float32")
            tile.place(result, small.shape[1:]).copy_(y.clamp_(0, 1).mul_(255).round_())
            watch(done, len(cut))
    return Image.fromarray(large[: scale * image.height, : scale * image.width])
