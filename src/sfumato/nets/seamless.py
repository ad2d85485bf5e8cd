"""Networks for pictures that tile: what lies beyond one edge of a map is what lies at the opposite one."""

from __future__ import annotations

from typing import TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.nets.blocks import Downsample
from sfumato.nets.shared_weights import with_shared_weights
from sfumato.nets.vae import VAE

Network = TypeVar("Network", bound=nn.Module)


class Wrapped(nn.Module):
    """A convolution whose margins (left, right, top, bottom) wrap around in x, in y or in both, and else are zeros."""

    def __init__(self, conv: nn.Conv2d, margins: tuple[int, int, int, int], x: bool, y: bool):
        super().__init__()
        self.conv, self.margins = conv, margins
        self.x, self.y = ("circular" if wraps else "constant" for wraps in (x, y))

    def forward(self, x: Tensor) -> Tensor:
        left, right, top, bottom = self.margins
        x = F.pad(F.pad(x, (left, right, 0, 0), self.x), (0, 0, top, bottom), self.y)
        return F.conv2d(x, self.conv.weight, self.conv.bias, self.conv.stride)


def seamless(network: Network, x: bool, y: bool) -> Network:
    """A convolutional network, on the same weights, whose convolutions wrap around; attention knows no edges anyway.

    An autoencoder takes every picture whole: a tile would wrap around in itself.
    """

    def exchange(module: nn.Module) -> nn.Module:
        if isinstance(module, Downsample) and module.one_sided:
            return Wrapped(module.conv, (0, 1, 0, 1), x, y)
        if isinstance(module, nn.Conv2d) and module.padding != (0, 0):
            below, beside = (int(side) for side in module.padding)
            return Wrapped(module, (beside, beside, below, below), x, y)
        return module

    result = with_shared_weights(network, exchange)
    if isinstance(result, VAE):
        result.tiled = False
        vars(result).pop("in_full", None)  # a copy with edges
    return result
