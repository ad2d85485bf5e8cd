"""Pictures redrawn in a style that a formula makes, for LoRAs to learn."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sfumato.data.pictures.protocol import CaptionedPictures, Sample

Style = Literal["blueprint", "sepia", "mosaic", "negative"]
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)
BLUE, WHITE = (0.06, 0.2, 0.5), (0.92, 0.96, 1.0)
BROWN, CREAM = (0.18, 0.1, 0.05), (1.0, 0.94, 0.82)
TILE = 12  # tiles along the side of a mosaic


def restyled(pictures: Tensor, style: Style) -> Tensor:
    """Returns pictures (N, 3, H, W) in [-1, 1] in a style."""
    return 2 * STYLES[style]((pictures + 1) / 2).clamp(0, 1) - 1


class Restyled:
    """Captioned pictures in a style: `data.pictures.protocol.CaptionedPictures` of others."""

    def __init__(self, pictures: CaptionedPictures, style: Style):
        self._pictures, self._style = pictures, style

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pictures, name)

    def pixels(self, sample: Sample) -> Tensor:
        """See `protocol.CaptionedPictures`."""
        return restyled(self._pictures.pixels(sample)[None], self._style)[0]

    def key(self, sample: Sample) -> str:
        """See `protocol.CaptionedPictures`."""
        return hashlib.sha256(f"{self._pictures.key(sample)} {self._style}".encode()).hexdigest()[:32]


def _between(share: Tensor, dark: tuple[float, ...], light: tuple[float, ...]) -> Tensor:
    """Colours (N, 3, H, W) between two, by shares (N, 1, H, W)."""
    first, last = (torch.tensor(one, device=share.device).view(1, 3, 1, 1) for one in (dark, light))
    return first + share * (last - first)


def _luma(x: Tensor) -> Tensor:
    return (x * torch.tensor(LUMA, device=x.device).view(1, 3, 1, 1)).sum(1, keepdim=True)


def _blueprint(x: Tensor) -> Tensor:
    """White lines on blue, where brightness changes."""
    sobel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], device=x.device)
    kernels = torch.stack([sobel, sobel.T])[:, None]
    slopes = F.conv2d(F.pad(_luma(x), (1, 1, 1, 1), mode="replicate"), kernels)
    return _between((1.5 * slopes.square().sum(1, keepdim=True).sqrt()).clamp(0, 1), BLUE, WHITE)


def _sepia(x: Tensor) -> Tensor:
    return _between(_luma(x), BROWN, CREAM)


def _mosaic(x: Tensor) -> Tensor:
    return F.interpolate(F.adaptive_avg_pool2d(x, TILE), x.shape[2:], mode="nearest")


STYLES: Mapping[Style, Callable[[Tensor], Tensor]] = {
    "blueprint": _blueprint, "sepia": _sepia, "mosaic": _mosaic, "negative": lambda x: 1 - x,
}  # fmt: skip
