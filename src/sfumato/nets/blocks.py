"""The convolutional pieces that the U-Net and the autoencoder share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.nets.layers import Conv2d, Linear


def norm_silu(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    """SiLU of the normalised map, in place where no gradient needs what was there."""
    return F.silu(norm(x), inplace=not torch.is_grad_enabled())


class ResBlock(nn.Module):
    """Two normalised 3x3 convolutions around a shortcut; the U-Net's also add a projection of the time embedding.

    x (B, Cin, h, w), embedding (B, E) or None -> (B, Cout, h, w).
    """

    def __init__(self, cin: int, cout: int, groups: int, eps: float, embedding: int | None = None):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, cin, eps=eps)
        self.conv1 = Conv2d(cin, cout, 3)
        if embedding is not None:
            self.time_emb_proj = Linear(embedding, cout)
        self.norm2 = nn.GroupNorm(groups, cout, eps=eps)
        self.conv2 = Conv2d(cout, cout, 3)
        self.conv_shortcut = Conv2d(cin, cout, 1) if cin != cout else None

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        h = self.conv1(norm_silu(self.norm1, x))
        if embedding is not None:
            h = h + self.time_emb_proj(F.silu(embedding))[:, :, None, None]
        h = norm_silu(self.norm2, h)  # a line of its own: what was there before is free while conv2 works
        h = self.conv2(h)
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Downsample(nn.Module):
    """Halve the sides by a strided convolution (B, C, h, w) -> (B, C, h/2, w/2).

    The autoencoder's encoder pads right and bottom only, the U-Net all around.
    """

    def __init__(self, channels: int, one_sided: bool = False):
        super().__init__()
        self.one_sided = one_sided
        self.conv = nn.Conv2d(channels, channels, 3, stride=2) if one_sided else Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.one_sided else x)


class Upsample(nn.Module):
    """Double the sides by nearest neighbour and a convolution (B, C, h, w) -> (B, C, 2h, 2w).

    `size` asks for the sides (h, w) of a skip connection where halving had rounded up.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv = Conv2d(channels, channels, 3)

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        size = size or (2 * x.shape[2], 2 * x.shape[3])
        return self.conv(F.interpolate(x, size=size, mode="nearest"))
