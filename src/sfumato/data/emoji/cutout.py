"""Emoji cut out of their pictures, to be scaled, turned and recoloured."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sfumato.data.emoji.captions import Colour
from sfumato.nets import recolour


@dataclass(frozen=True, eq=False)
class Cutout:
    """An emoji without its empty margin; `rgba` is uint8 (H, W, 4), straight alpha."""

    rgba: np.ndarray

    @classmethod
    def of(cls, rgba: np.ndarray) -> Cutout:
        """Cuts the emoji out of a whole picture (S, S, 4); pixels of an alpha up to 25 count as empty."""
        rows, columns = (np.flatnonzero((rgba[..., 3] > 25).any(axis)) for axis in (1, 0))
        return cls(np.ascontiguousarray(rgba[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]))

    @cached_property
    def mean(self) -> np.ndarray:
        """The mean 8-bit RGB (3,) of the visible pixels."""
        return np.average(self.rgba[..., :3].reshape(-1, 3), axis=0, weights=self.rgba[..., 3].ravel())

    @cached_property
    def tintable(self) -> bool:
        """Whether one hue covers so many pixels that changing it changes the colour of the whole thing."""
        _, share = recolour.main_hue(*self._tensors)
        return bool(share >= recolour.TINTABLE_SHARE)

    def tinted(self, colour: Colour) -> Cutout:
        """Returns a copy whose main hue is replaced by the colour; shading and other hues stay."""
        target = torch.tensor(np.add(colour.low, colour.high) / 510, dtype=torch.float32)
        rgb = recolour.tinted(*self._tensors, target[None])[0].movedim(0, -1)
        return Cutout(np.dstack([(255 * rgb).round().byte().numpy(), self.rgba[..., 3]]))

    def size(self, side: float) -> tuple[int, int]:
        """Returns width and height, in whole pixels, of the cut-out scaled so that its longer edge is about `side`."""
        height, width = self.rgba.shape[:2]
        factor = side / max(height, width)
        return max(1, round(width * factor)), max(1, round(height * factor))

    def scaled(self, width: int, height: int) -> np.ndarray:
        """Returns the cut-out at this size in pixels: float RGBA (height, width, 4) in [0, 1], premultiplied."""
        picture = Image.fromarray(self.rgba).convert("RGBa").resize((width, height), Image.Resampling.LANCZOS)
        return np.asarray(picture, np.float32) / 255

    def posed(self, width: int, height: int, angle: float, mirrored: bool) -> np.ndarray:
        """Returns the cut-out as `scaled` does, then flipped if `mirrored`, then turned clockwise by `angle` degrees.

        The frame grows as far as the turned picture needs.
        """
        rgba = self.scaled(width, height)
        if mirrored:
            rgba = rgba[:, ::-1]
        if angle == 180:
            return rgba[::-1, ::-1]
        if not angle:
            return rgba
        channels = (Image.fromarray(np.ascontiguousarray(rgba[..., k])) for k in range(4))
        turned = [c.rotate(-angle, Image.Resampling.BICUBIC, expand=True) for c in channels]
        return np.clip(np.stack([np.asarray(c) for c in turned], -1), 0, 1)

    @property
    def _tensors(self) -> tuple[Tensor, Tensor]:
        """Straight RGB (1, 3, H, W) and alpha (1, 1, H, W) from 0 to 1."""
        return torch.from_numpy(self.rgba).movedim(-1, 0)[None].float().div(255).split((3, 1), 1)
