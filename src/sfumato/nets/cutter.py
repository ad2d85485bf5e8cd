"""Cuts a thing out of its picture: a small network that finds which pixels are the thing's, and their own colours.

The pictures are on a ground of one light green, KEY, as films are shot before a green screen: no artwork is of that
colour, so even white things end where the green begins. It is lighter than a film's green, because an autoencoder
brings pictures on strong colours back less exactly.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KEY = (160 / 255, 245 / 255, 150 / 255)  # of the ground, red, green and blue from 0 to 1
FOLD = 4  # pixels a side that the first layer sees as one place


class Cutter(nn.Module):
    """Pictures on KEY (N, 3, H, W) from 0 to 1 -> the things in them (N, 4, H, W), premultiplied RGBA from 0 to 1.

    A U-Net of three levels (Ronneberger et al. 2015): the finest has `width` channels, the two others twice as many. H
    and W are multiples of 16.
    """

    def __init__(self, width: int = 24):
        super().__init__()
        fine, coarse = width, 2 * width
        self.conv_in = _conv(3 * FOLD**2, fine)
        self.down = nn.ModuleList([_conv(4 * fine, coarse, 1), _conv(4 * coarse, coarse, 1)])
        self.up = nn.ModuleList([_conv(coarse, 4 * coarse, 1), _conv(coarse, 4 * fine, 1)])
        sizes = (fine, coarse, coarse, coarse, coarse, coarse, fine)
        self.layers = nn.ModuleList([_conv(size, size) for size in sizes])
        self.conv_out = _conv(fine, 4 * FOLD**2)

    def forward(self, x: Tensor) -> Tensor:
        first, second, third, fourth, fifth, sixth, last = self.layers
        fine = _add(F.silu(self.conv_in(F.pixel_unshuffle(2 * x - 1, FOLD))), first)
        middle = _add(_add(self.down[0](F.pixel_unshuffle(fine, 2)), second), third)
        coarse = _add(_add(self.down[1](F.pixel_unshuffle(middle, 2)), fourth), fifth)
        middle = _add(middle + F.pixel_shuffle(self.up[0](coarse), 2), sixth)
        fine = _add(fine + F.pixel_shuffle(self.up[1](middle), 2), last)
        out = F.pixel_shuffle(self.conv_out(fine), FOLD).float()
        alpha, colour = out[:, :1].sigmoid(), x.float() + out[:, 1:]
        own = colour - (1 - alpha) * colour.new_tensor(KEY)[:, None, None]
        return torch.cat([torch.minimum(own.clamp(min=0), alpha), alpha], 1)


def _conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


def _add(x: Tensor, layer: nn.Module) -> Tensor:
    return x + F.silu(layer(x))
