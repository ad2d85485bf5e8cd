"""A small convolutional image encoder, the picture side of contrastive training."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.nets.blocks import Downsample, ResBlock

EPS = 1e-5


@dataclass(frozen=True)
class ImageTowerConfig:
    """Pictures are cut into patches of `patch` pixels; each level has `blocks` residual blocks and halves the sides."""

    size: int = 64
    patch: int = 4
    channels: tuple[int, ...] = (64, 128, 256)
    blocks: int = 2
    groups: int = 8


class ImageTower(nn.Module):
    """Pictures (B, 3, S, S) in [-1, 1] -> features (B, channels[-1]): the normalised mean over all positions."""

    def __init__(self, cfg: ImageTowerConfig):
        super().__init__()
        self.cfg = cfg
        widths = cfg.channels
        self.conv_in = nn.Conv2d(3, widths[0], cfg.patch, stride=cfg.patch)
        layers: list[nn.Module] = []
        for i, width in enumerate(widths):
            if i:
                layers.append(Downsample(widths[i - 1]))
            for j in range(cfg.blocks):
                layers.append(ResBlock(widths[max(i - 1, 0)] if j == 0 else width, width, cfg.groups, EPS))
        self.layers = nn.Sequential(*layers)
        self.conv_norm_out = nn.GroupNorm(cfg.groups, widths[-1], eps=EPS)
        self.norm_out = nn.LayerNorm(widths[-1])

    def forward(self, x: Tensor) -> Tensor:
        h = F.silu(self.conv_norm_out(self.layers(self.conv_in(x))))
        return self.norm_out(h.mean((2, 3)))
