"""Emoji cut out of their pictures, to be scaled, turned and recoloured."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from sfumato.data.emoji.captions import Colour

HUE_SPREAD = 40.0  # degrees to either side of the main hue
HUE_EDGE = 20.0  # more degrees over which a tint fades
MIN_CHROMA = 0.15
TINTABLE_SHARE = 0.45


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
        _, share = self._main_hue
        return share >= TINTABLE_SHARE

    def tinted(self, colour: Colour) -> Cutout:
        """Returns a copy whose main hue is replaced by the colour; shading and other hues stay."""
        target = np.add(colour.low, colour.high) / 510
        hue, saturation, value = _hsv(self.rgba[..., :3] / 255)
        main, _ = self._main_hue
        share = np.clip((HUE_SPREAD + HUE_EDGE - _apart(hue, main)) / HUE_EDGE, 0, 1) * (saturation * value > 0.05)
        weight = share * saturation * value * self.rgba[..., 3]
        wanted_hue, wanted_saturation, wanted_value = _hsv(target)
        new = _rgb(
            np.full_like(hue, wanted_hue),
            np.clip(saturation * (wanted_saturation / np.average(saturation, weights=weight)), 0, 1),
            np.clip(value * (wanted_value / np.average(value, weights=weight)), 0, 1),
        )
        mixed = self.rgba[..., :3] / 255 * (1 - share[..., None]) + new * share[..., None]
        return Cutout(np.dstack([np.round(mixed * 255).astype(np.uint8), self.rgba[..., 3]]))

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

    @cached_property
    def _main_hue(self) -> tuple[float, float]:
        """The main hue in degrees, and the share of the visible pixels whose hue lies near it."""
        seen = self.rgba[self.rgba[..., 3] > 127][:, :3] / 255
        hue, saturation, value = _hsv(seen)
        chroma = saturation * value
        coloured = chroma > MIN_CHROMA
        if not coloured.any():
            return 0.0, 0.0
        main = np.angle((chroma * coloured * np.exp(1j * np.deg2rad(hue))).sum(), deg=True) % 360
        return float(main), float(np.mean(coloured & (_apart(hue, main) < HUE_SPREAD)))


def _apart(hue: np.ndarray, other: float) -> np.ndarray:
    """Returns the distance between hues in degrees, 0 to 180."""
    return np.abs((hue - other + 180) % 360 - 180)


def _hsv(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns hue in degrees, saturation and value of colours (..., 3) in [0, 1]."""
    r, g, b = np.moveaxis(rgb, -1, 0)
    value = rgb.max(-1)
    chroma = value - rgb.min(-1)
    safe = np.where(chroma == 0, 1, chroma)
    hue = np.where(value == r, (g - b) / safe, np.where(value == g, (b - r) / safe + 2, (r - g) / safe + 4)) * 60 % 360
    return hue, chroma / np.where(value == 0, 1, value), value


def _rgb(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Returns colours (..., 3) in [0, 1], the inverse of `_hsv`."""
    place = (np.array([5, 3, 1]) + (hue / 60)[..., None]) % 6
    return value[..., None] * (1 - saturation[..., None] * np.clip(np.minimum(place, 4 - place), 0, 1))
