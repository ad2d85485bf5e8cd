"""Colours exchanged in pictures: the main hue of a thing becomes another one; shading and other hues stay.

Pictures here are of things on nothing: `rgb` (N, 3, h, w) and `alpha` (N, 1, h, w), both from 0 to 1, straight.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

HUE_SPREAD = 40.0  # degrees to either side of the main hue
HUE_EDGE = 20.0  # more degrees over which a tint fades
MIN_CHROMA = 0.15  # of a pixel that has a hue
DARK = 0.05  # chroma of a pixel that keeps its colour
TINTABLE_SHARE = 0.45  # of the visible pixels that the main hue must cover


def main_hue(rgb: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the main hue (N,) in degrees, and the share (N,) of the visible pixels whose hue lies near it."""
    hue, saturation, value = hsv(rgb)
    seen = (alpha[:, 0] > 0.5).flatten(1)
    chroma = (saturation * value).flatten(1)
    coloured = seen & (chroma > MIN_CHROMA)
    turn = hue.flatten(1) * (math.pi / 180)
    weight = chroma * coloured
    main = torch.atan2((weight * turn.sin()).sum(1), (weight * turn.cos()).sum(1)) * (180 / math.pi) % 360
    near = coloured & (_apart(hue.flatten(1), main[:, None]) < HUE_SPREAD)
    return main, near.sum(1) / seen.sum(1).clamp(min=1)


def tinted(rgb: Tensor, alpha: Tensor, colours: Tensor) -> Tensor:
    """Returns `rgb` with the colours (N, 3) in place of the main hues.

    A thing without a main hue, such as a white or a black one, is seen as if in light of that colour.
    """
    hue, saturation, value = hsv(rgb)
    main, covered = main_hue(rgb, alpha)
    wanted = [part[:, None, None] for part in hsv(colours)]
    chroma = saturation * value
    near = ((HUE_SPREAD + HUE_EDGE - _apart(hue, main[:, None, None])) / HUE_EDGE).clamp(0, 1) * (chroma > DARK)
    weight = near * chroma * alpha[:, 0]

    def scaled(part: Tensor, target: Tensor) -> Tensor:
        mean = (part * weight).sum((1, 2), keepdim=True) / weight.sum((1, 2), keepdim=True).clamp(min=1e-6)
        return (part * (target / mean.clamp(min=1e-6))).clamp(0, 1)

    new = _rgb(wanted[0].expand_as(hue), scaled(saturation, wanted[1]), scaled(value, wanted[2]))
    changed = rgb * (1 - near[:, None]) + new * near[:, None]
    lit = rgb * colours[:, :, None, None]
    return torch.where((covered >= TINTABLE_SHARE)[:, None, None, None], changed, lit)


def hsv(rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns hue in degrees, saturation and value (N, ...) of colours (N, 3, ...)."""
    r, g, b = rgb.unbind(1)
    value, chroma = rgb.amax(1), rgb.amax(1) - rgb.amin(1)
    safe = torch.where(chroma == 0, 1, chroma)
    hue = torch.where(value == r, (g - b) / safe, torch.where(value == g, (b - r) / safe + 2, (r - g) / safe + 4))
    return hue * 60 % 360, chroma / torch.where(value == 0, 1, value), value


def _rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """The inverse of `hsv`: colours (N, 3, ...)."""
    place = torch.stack([(hue / 60 + offset) % 6 for offset in (5, 3, 1)], 1)
    return value[:, None] * (1 - saturation[:, None] * torch.minimum(place, 4 - place).clamp(0, 1))


def _apart(hue: Tensor, other: Tensor) -> Tensor:
    """Returns the distance between hues in degrees, 0 to 180."""
    return ((hue - other + 180) % 360 - 180).abs()
