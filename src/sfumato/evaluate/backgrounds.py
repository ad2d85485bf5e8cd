"""Whether a picture stands on the background that its prompt names."""

from __future__ import annotations

import torch
from torch import Tensor

from sfumato.data.emoji.captions import COLOURS

FRAME = 2


def ground(x: Tensor) -> Tensor:
    """The 8-bit colour (B, 3) of the outermost pixels of pictures (B, 3, H, W) in [-1, 1]: their median."""
    inner = torch.zeros(x.shape[2:], dtype=torch.bool)
    inner[FRAME:-FRAME, FRAME:-FRAME] = True
    return (x[:, :, ~inner].median(2).values + 1) * 127.5


def name_of(colours: Tensor) -> Tensor:
    """Place in `captions.COLOURS` of the named colour that is nearest to each of 8-bit (B, 3): int64 (B,)."""
    low = torch.tensor([colour.low for colour in COLOURS]).float()
    high = torch.tensor([colour.high for colour in COLOURS]).float()
    rgb = colours[:, None]
    return (rgb - rgb.clamp(low, high)).square().sum(2).argmin(1)
