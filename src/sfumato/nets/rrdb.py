"""The network of ESRGAN (Wang et al. 2018, section 3.1) and Real-ESRGAN (Wang et al. 2021): pixels to more pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.nets.layers import Conv2d

SLOPE = 0.2  # of the leaky rectifiers
SHARE = 0.2  # of what a block adds to what it was given


def rectified(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE)


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees what all before it made: (B, C, h, w) -> (B, C, h, w)."""

    def __init__(self, channels: int, growth: int):
        super().__init__()
        self.conv1, self.conv2, self.conv3, self.conv4 = (Conv2d(channels + i * growth, growth, 3) for i in range(4))
        self.conv5 = Conv2d(channels + 4 * growth, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            maps.append(rectified(conv(torch.cat(maps, 1))))
        return x + SHARE * self.conv5(torch.cat(maps, 1))


class RRDB(nn.Module):
    """Residual in residual dense block: three dense blocks around which the map is led past."""

    def __init__(self, channels: int, growth: int):
        super().__init__()
        self.rdb1 = DenseBlock(channels, growth)
        self.rdb2 = DenseBlock(channels, growth)
        self.rdb3 = DenseBlock(channels, growth)

    def forward(self, x: Tensor) -> Tensor:
        return x + SHARE * self.rdb3(self.rdb2(self.rdb1(x)))


class RRDBNet(nn.Module):
    """Pictures (B, Ci, h, w) in [0, 1] -> (B, Co, scale h, scale w), about 0 to 1.

    The map is doubled `doublings` times at the end. With `unshuffle` 2 or 4 the network sees that many pixels a side as
    channels of one place, which takes as much of the scale; h and w are then multiples of it.
    """

    def __init__(self, channels: int, width: int, growth: int, blocks: int, doublings: int, unshuffle: int = 1):
        super().__init__()
        self.unshuffle = unshuffle
        self.conv_first = Conv2d(channels * unshuffle**2, width, 3)
        self.body = nn.ModuleList(RRDB(width, growth) for _ in range(blocks))
        self.conv_body = Conv2d(width, width, 3)
        self.doublings = [f"conv_up{i + 1}" for i in range(doublings)]
        for name in self.doublings:
            self.add_module(name, Conv2d(width, width, 3))
        self.conv_hr = Conv2d(width, width, 3)
        self.conv_last = Conv2d(width, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        first = self.conv_first(F.pixel_unshuffle(x, self.unshuffle))
        x = first
        for block in self.body:
            x = block(x)
        x = first + self.conv_body(x)
        for name in self.doublings:
            x = rectified(self.get_submodule(name)(F.interpolate(x, scale_factor=2, mode="nearest")))
        return self.conv_last(rectified(self.conv_hr(x)))
