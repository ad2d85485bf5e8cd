"""Networks for pictures that tile: what lies beyond one edge of a map is what lies at the opposite one."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TypeVar, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.diffusion.cond import Cond
from sfumato.diffusion.step_cache import Recall
from sfumato.nets.blocks import Downsample
from sfumato.nets.mmdit import MMDiT
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


class Rolled(nn.Module):
    """A transformer for pictures that tile: asked about the picture, and about the same picture rolled by half a side.

    Its table of positions tells every patch how far the edges are, so no padding makes it forget them. What is an edge
    of one picture lies in the middle of the other, and each estimate counts by how far its own edges are (sin^2, which
    is 0 at an edge). Rolled in `x` and in `y`, four estimates are blended, in one call.
    """

    def __init__(self, network: MMDiT, x: bool, y: bool):
        super().__init__()
        self.network, self.x, self.y = network, x, y

    def forward(
        self, x: Tensor, t: Tensor, cond: Cond, control: tuple[Tensor, ...] = (), recall: Recall | None = None
    ) -> Tensor:
        p, (h, w) = self.network.cfg.patch, x.shape[2:]
        shifts = [
            (a, b) for a in ((0, h // p // 2) if self.y else (0,)) for b in ((0, w // p // 2) if self.x else (0,))
        ]
        n = len(shifts)

        def rolled(maps: Tensor, by: int) -> Tensor:
            """n times as many maps (B, C, h, w), each rolled by one of the shifts of patches of `by`."""
            return torch.cat([maps.roll((by * a, by * b), (2, 3)) for a, b in shifts])

        concat = None if cond.concat is None else rolled(cond.concat, p)
        moved = replace(Cond.cat([replace(cond, concat=None)] * n), concat=concat)
        added = tuple(
            rolled(each.transpose(1, 2).unflatten(2, (h // p, w // p)), 1).flatten(2).transpose(1, 2)
            for each in control
        )
        recall = None if recall is None else recall.repeated(n)
        answers = self.network(rolled(x, p), t.repeat(n), moved, added, recall).chunk(n)
        share = _middle(h, self.y, x)[:, None] * _middle(w, self.x, x)
        blend, total = torch.zeros_like(answers[0]), torch.zeros_like(share)
        for (a, b), answer in zip(shifts, answers, strict=True):
            back = (-p * a, -p * b)
            blend = blend + (share * answer).roll(back, (2, 3))
            total = total + share.roll(back, (0, 1))
        return blend / total


def _middle(length: int, wraps: bool, like: Tensor) -> Tensor:
    """Returns the weight of each place (length,) of a side: largest in the middle if it wraps, else 1 everywhere."""
    places = (torch.arange(length, dtype=torch.float64) + 0.5) / length
    return (places.mul(math.pi).sin().square() if wraps else torch.ones_like(places)).to(like)


@overload
def seamless(network: MMDiT, x: bool, y: bool) -> Rolled: ...
@overload
def seamless(network: Network, x: bool, y: bool) -> Network: ...
def seamless(network: nn.Module, x: bool, y: bool) -> nn.Module:
    """The network, on the same weights, for pictures that tile in x, in y or in both.

    Convolutions wrap around, and the attention between them knows no edges; a transformer is asked as `Rolled` says. An
    autoencoder takes every picture whole: a tile would wrap around in itself.
    """
    if isinstance(network, MMDiT):
        return Rolled(network, x, y)

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
        result.forget_copies()  # which have edges
    return result
