"""The decoder of TAESD, a tiny autoencoder by Ollin Boer Bohan: latents to pictures in a fraction of the time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sfumato.nets.layers import Conv2d

LIMIT = 3.0  # latents are squeezed softly into this range about 0


class TinyBlock(nn.Module):
    """Three convolutions beside a shortcut: (B, C, h, w) -> (B, C, h, w)."""

    def __init__(self, width: int):
        super().__init__()
        layers = (Conv2d(width, width, 3), nn.ReLU(), Conv2d(width, width, 3), nn.ReLU(), Conv2d(width, width, 3))
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x) + x)


class TinyDecoder(nn.Module):
    """Latents (B, C, h, w) in the denoising network's units -> pictures (B, 3, f h, f w), about -1 to 1.

    `blocks` says how many blocks each resolution has, the lowest first; the next has twice the sides.
    """

    def __init__(self, latent_channels: int, width: int, blocks: Sequence[int]):
        super().__init__()
        layers: list[nn.Module] = [Conv2d(latent_channels, width, 3), nn.ReLU()]
        for stage, count in enumerate(blocks):
            if stage:
                layers += [nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1, bias=False)]
            layers += [TinyBlock(width) for _ in range(count)]
        self.layers = nn.Sequential(*layers, Conv2d(width, 3, 3))
        self.latent_channels, self.factor = latent_channels, 2 ** (len(blocks) - 1)

    def forward(self, latents: Tensor) -> Tensor:
        return 2 * self.layers(LIMIT * torch.tanh(latents / LIMIT)) - 1
