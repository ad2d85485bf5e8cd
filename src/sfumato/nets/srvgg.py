"""The compact network of Real-ESRGAN (Wang et al. 2021): plain convolutions, all at the small picture's size."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.nets.layers import Conv2d


class SRVGGNetCompact(nn.Module):
    """Pictures (B, C, h, w) in [0, 1] -> (B, C, scale h, scale w): what is added to the nearest pixel's colour."""

    def __init__(self, channels: int, width: int, convolutions: int, scale: int):
        super().__init__()
        self.scale = scale
        layers: list[nn.Module] = [Conv2d(channels, width, 3), nn.PReLU(width)]
        for _ in range(convolutions):
            layers += [Conv2d(width, width, 3), nn.PReLU(width)]
        self.body = nn.ModuleList([*layers, Conv2d(width, channels * scale**2, 3)])

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for layer in self.body:
            h = layer(h)
        return F.pixel_shuffle(h, self.scale) + F.interpolate(x, scale_factor=self.scale, mode="nearest")
