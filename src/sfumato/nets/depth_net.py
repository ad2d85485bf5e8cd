"""The embedded model's depth network: a small U of convolutions that sees which thing lies before which."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.nets.layers import Conv2d
from sfumato.spec import DepthNetConfig


class Block(nn.Module):
    """Two normalised 3x3 convolutions; `stride` 2 halves the sides."""

    def __init__(self, cin: int, cout: int, groups: int, stride: int = 1):
        super().__init__()
        self.conv1, self.norm1 = Conv2d(cin, cout, 3, stride), nn.GroupNorm(groups, cout)
        self.conv2, self.norm2 = Conv2d(cout, cout, 3), nn.GroupNorm(groups, cout)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.norm2(self.conv2(F.silu(self.norm1(self.conv1(x))))))


class DepthNet(nn.Module):
    """Pictures (B, 3, H, W) in [-1, 1], sides multiples of `multiple` -> nearness (B, H / 4, W / 4).

    `side` is that of the pictures it was trained on.
    """

    def __init__(self, cfg: DepthNetConfig):
        super().__init__()
        self.cfg = cfg
        self.side, self.multiple = cfg.side, 2 ** len(cfg.channels)
        stem, *widths = cfg.channels
        self.stem = Block(3, stem, cfg.groups, 2)
        self.down = nn.ModuleList(
            Block(cin, cout, cfg.groups, 2) for cin, cout in zip((stem, *widths), widths, strict=False)
        )
        self.up = nn.ModuleList(
            Block(below + beside, beside, cfg.groups)
            for below, beside in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.out = Conv2d(widths[0], 1, 3)

    def forward(self, x: Tensor) -> Tensor:
        x, maps = self.stem(x), []
        for block in self.down:
            x = block(x)
            maps.append(x)
        for block, beside in zip(self.up, maps[-2::-1], strict=True):
            x = F.interpolate(x, beside.shape[2:], mode="nearest")
            x = block(torch.cat([x, beside], 1))
        return self.out(x)[:, 0]
