"""A small residual network that turns pictures into vectors (He et al. 2016), the picture side of contrastive training.

It takes pictures of any size; its sizes are meant for 48 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class ImageTowerConfig:
    """Two strided convolutions, then levels of `blocks` residual blocks, each level at half the sides of the one
    before. `size` is the side of the pictures that it is trained on, in pixels."""

    size: int = 48
    stem: int = 24
    channels: tuple[int, ...] = (48, 96, 192)
    blocks: tuple[int, ...] = (1, 2, 1)


class ImageTower(nn.Module):
    """Pictures (B, 3, S, S) in [-1, 1] -> features (B, channels[-1]), the mean over all positions."""

    def __init__(self, cfg: ImageTowerConfig):
        super().__init__()
        self.cfg = cfg
        self.conv_in = nn.Conv2d(3, cfg.stem, 3, stride=2, padding=1, bias=False)
        self.norm_in = nn.BatchNorm2d(cfg.stem)
        widths = (cfg.stem, *cfg.channels)
        layers = [
            ResidualBlock(widths[i] if k == 0 else width, width, 2 if k == 0 else 1)
            for i, width in enumerate(cfg.channels)
            for k in range(cfg.blocks[i])
        ]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(F.relu(self.norm_in(self.conv_in(x)))).mean((2, 3))


class ResidualBlock(nn.Module):
    """Two convolutions with batch normalisation beside a shortcut, which takes means where the block is strided."""

    def __init__(self, cin: int, cout: int, stride: int):
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(cin, cout, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(cout)
        self.shortcut = nn.Conv2d(cin, cout, 1, bias=False) if cin != cout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        x = F.avg_pool2d(x, self.stride, ceil_mode=True) if self.stride > 1 else x
        return F.relu(self.shortcut(x) + h)
