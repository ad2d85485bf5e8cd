"""What of a picture is to be drawn: masks as users give them, and as pixels and latents need them.

Here a mask is float32 (1, 1, H, W): the share of each pixel that is drawn, from 0, which nothing may ever change, to 1.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from sfumato.errors import SfumatoError

NEARLY = 0.05  # of black or white counts as that: masks come as JPEG, too
RELAXATIONS = 10  # per level: a straight ramp is then met to 4%


def from_picture(grey: Image.Image, width: int, height: int, invert: bool = False, grow: int = 0) -> Tensor:
    """The mask of a picture of that size: `grey` (L) is white where to draw, or black with `invert`.

    It is grown by pixels, or below 0 shrunk. Raises SfumatoError for another size, and if nothing is left of it.
    """
    if grey.size != (width, height):
        theirs = f"the mask is {grey.width}x{grey.height}, the picture {width}x{height}"
        raise SfumatoError(f"{theirs}; give a mask of the picture's size")
    share = torch.from_numpy(np.array(grey, np.float32))[None, None] / 255
    share = ((share - NEARLY) / (1 - 2 * NEARLY)).clamp(0, 1)
    mask = grown(1 - share if invert else share, grow)
    if not mask.any():
        how = "shrink it less" if grow < 0 and share.any() else "make white what is to be drawn, or invert the mask"
        raise SfumatoError(f"the mask is empty, so there is nothing to draw; {how}")
    return mask


def grown(mask: Tensor, pixels: int) -> Tensor:
    """The mask spread by so many pixels on every side, or for less than 0 drawn back."""
    if pixels < 0:
        return 1 - grown(1 - mask, -pixels)
    for spread in _spreading(mask, pixels):
        mask = spread
    return mask


def edge(mask: Tensor, blur: int) -> Tensor:
    """A soft edge inside the mask: how deep every pixel lies, as a share of `blur` + 1 pixels; 0 outside, at most 1.

    Nothing outside changes by it. The picture's own edge is none of the mask's.
    """
    outside = (mask == 0).float()
    covered = sum(_spreading(outside, blur), outside)
    return 1 - covered / (blur + 1)


def _spreading(mask: Tensor, pixels: int) -> Iterator[Tensor]:
    """The mask after 1, 2 ... pixels of growth: squares and diamonds in turn, which together are nearly round."""
    for pixel in range(pixels):
        if pixel % 2:
            mask = F.max_pool2d(mask, 3, 1, 1)
        else:
            mask = F.max_pool2d(mask, (3, 1), 1, (1, 0)).maximum(F.max_pool2d(mask, (1, 3), 1, (0, 1)))
        yield mask


def bounds(mask: Tensor) -> tuple[int, int, int, int]:
    """The box around what is drawn, in pixels: left, top, and the first column and row beyond."""
    rows, columns = (mask[0, 0].any(axis).nonzero()[:, 0].tolist() for axis in (1, 0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def touched(mask: Tensor, height: int, width: int) -> Tensor:
    """Where in a raster of that size any of the mask lies: bool (1, 1, height, width)."""
    return F.adaptive_max_pool2d(mask, (height, width)) > 0


def filled(values: Tensor, hole: Tensor) -> Tensor:
    """values (1, C, H, W) with the hole, bool (1, 1, H, W), filled as a membrane fixed at its edge would fill it.

    Pull-push (Gortler et al. 1996, section 3.4.2): averages of what is known at half the size, as often as it takes,
    interpolated back and relaxed. Where nothing is known it is 0.
    """
    if not hole.any():
        return values
    if hole.all():
        return torch.zeros_like(values)
    weight = F.avg_pool2d((~hole).to(values.dtype), 2, ceil_mode=True)
    small = F.avg_pool2d(values.where(~hole, 0), 2, ceil_mode=True) / weight.clamp(min=1 / 8)
    smooth = F.interpolate(filled(small, weight == 0), hole.shape[2:], mode="bilinear", align_corners=False)
    for _ in range(RELAXATIONS):
        smooth = F.avg_pool2d(F.pad(smooth.where(hole, values), (1, 1, 1, 1), mode="replicate"), 3, 1)
    return smooth.where(hole, values)
