"""The part of a picture that is drawn, at the size in which it is drawn."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from sfumato.images.mask import bounds
from sfumato.images.resize import padded

Pair = tuple[int, int]
Box = tuple[int, int, int, int]
"""left, top, right, bottom; the latter two are the first pixels beyond."""


@dataclass(frozen=True)
class Region:
    """A box in a picture, all in pixels, and the `width` and `height` at which it is drawn.

    A box may stick out; what lies beyond is the outermost pixels, repeated.
    """

    box: Box
    width: int
    height: int

    @classmethod
    def whole(cls, size: Pair, drawn: Pair, multiple: int) -> Region:
        """All of a picture of a size (width, height), drawn at another; filled up where that is the next multiple."""
        if all(0 <= more - side < multiple for side, more in zip(size, drawn, strict=True)):
            return cls((0, 0, *drawn), *drawn)
        return cls(_shaped((0, 0, *size), drawn, size), *drawn)

    @classmethod
    def around(cls, mask: Tensor, padding: int, drawn: Pair) -> Region:
        """What is drawn of a mask (1, 1, H, W), with so many pixels of the picture around it."""
        left, top, right, bottom = bounds(mask)
        height, width = mask.shape[2:]
        near = max(0, left - padding), max(0, top - padding), min(width, right + padding), min(height, bottom + padding)
        return cls(_shaped(near, drawn, (width, height)), *drawn)

    def _beyond(self, width: int, height: int) -> Box:
        """How far the box sticks out of a picture of that size: left, top, right, bottom."""
        left, top, right, bottom = self.box
        return max(0, -left), max(0, -top), max(0, right - width), max(0, bottom - height)

    def cut(self, image: Image.Image) -> Image.Image:
        """The region of an RGB picture, as it is drawn."""
        beyond = self._beyond(*image.size)
        left, top, right, bottom = self.box
        inner = padded(image, *beyond).crop((left + beyond[0], top + beyond[1], right + beyond[0], bottom + beyond[1]))
        size = self.width, self.height
        return inner if inner.size == size else inner.resize(size, Image.Resampling.LANCZOS)

    def cut_mask(self, mask: Tensor) -> Tensor:
        """The region of a mask (1, 1, H, W), at the picture's size."""
        left, top, right, bottom = self.box
        before_x, before_y, after_x, after_y = self._beyond(mask.shape[3], mask.shape[2])
        wide = F.pad(mask, (before_x, after_x, before_y, after_y), mode="replicate")
        return wide[:, :, top + before_y : bottom + before_y, left + before_x : right + before_x]

    def put(self, drawn: Image.Image, image: Image.Image) -> Image.Image:
        """The RGB picture with the drawn region in its place."""
        left, top, right, bottom = self.box
        whole = image.copy()
        scaled = drawn.resize((right - left, bottom - top), Image.Resampling.LANCZOS)
        whole.paste(scaled, (left, top))
        return whole


def _shaped(box: Box, shape: Pair, size: Pair) -> Box:
    """The box made larger to a shape (width, height), and moved into a picture of that size where it fits."""
    left, top, right, bottom = box
    wide = max(right - left, round((bottom - top) * shape[0] / shape[1]))
    high = max(bottom - top, round((right - left) * shape[1] / shape[0]))
    x, y = _placed(left, right, wide, size[0]), _placed(top, bottom, high, size[1])
    return x, y, x + wide, y + high


def _placed(start: int, end: int, length: int, most: int) -> int:
    """Where a side of that length begins that contains start to end, inside 0 to most if it fits, else around it."""
    if length > most:
        return (most - length) // 2
    return min(max(0, (start + end - length) // 2), most - length)
