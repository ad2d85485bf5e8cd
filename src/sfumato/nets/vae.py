"""The KL autoencoder between pictures and latents (Rombach et al. 2022, section 3.1 and appendix G)."""

from __future__ import annotations

import copy
from functools import cached_property
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.nets.blocks import Downsample, ResBlock, Upsample, norm_silu
from sfumato.nets.layers import Linear
from sfumato.nets.shared_weights import with_shared_weights
from sfumato.nets.tiny_decoder import TinyDecoder
from sfumato.spec import VAEConfig

EPS = 1e-6
STREAM = 2.0**-6  # the scale of `VAE.in_range`: what the blocks add up may be this much smaller without loss
QUERIES = (
    128 * 128
)  # places that ask at once, those of a picture of 1024 pixels: what attention takes for them is bounded


class SpatialAttention(nn.Module):
    """Single-head attention over all positions, with a residual: (B, C, h, w) -> (B, C, h, w)."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, channels, eps=EPS)
        self.to_q = Linear(channels, channels)
        self.to_k = Linear(channels, channels)
        self.to_v = Linear(channels, channels)
        self.to_out = nn.ModuleList([Linear(channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.group_norm(x).flatten(2).transpose(1, 2).contiguous()  # (B, hw, C)
        k, v = (project(tokens).unsqueeze(1) for project in (self.to_k, self.to_v))  # (B, 1, hw, C)
        h = torch.empty_like(tokens)
        for first in range(0, tokens.shape[1], QUERIES):
            asked = slice(first, first + QUERIES)
            q = self.to_q(tokens[:, asked]).unsqueeze(1)
            h[:, asked] = self.to_out[0](F.scaled_dot_product_attention(q, k, v).squeeze(1))
        del k, v  # of a large picture half a gigabyte each
        return x + h.transpose(1, 2).unflatten(2, x.shape[2:])


class MiddleBlock(nn.Module):
    """Residual block, attention, residual block at the lowest resolution."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.resnets = nn.ModuleList([ResBlock(channels, channels, groups, EPS) for _ in range(2)])
        self.attentions = nn.ModuleList([SpatialAttention(channels, groups)])

    def forward(self, x: Tensor) -> Tensor:
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class Level(nn.Module):
    """The residual blocks of one resolution, then a step down or up unless it is the last."""

    def __init__(self, cin: int, cout: int, blocks: int, groups: int, step: Downsample | Upsample | None):
        super().__init__()
        self.resnets = nn.ModuleList([ResBlock(cin if i == 0 else cout, cout, groups, EPS) for i in range(blocks)])
        if isinstance(step, Downsample):
            self.downsamplers = nn.ModuleList([step])
        elif step is not None:
            self.upsamplers = nn.ModuleList([step])
        self.has_step = step is not None

    def forward(self, x: Tensor) -> Tensor:
        return self.step(self.blocks(x))

    def blocks(self, x: Tensor) -> Tensor:
        for block in self.resnets:
            x = block(x)
        return x

    def step(self, x: Tensor) -> Tensor:
        if not self.has_step:
            return x
        return (self.downsamplers if hasattr(self, "downsamplers") else self.upsamplers)[0](x)


class Encoder(nn.Module):
    """Pictures (B, 3, H, W) -> mean and log-variance stacked (B, 2C, H/f, W/f)."""

    def __init__(self, cfg: VAEConfig):
        super().__init__()
        widths, last = cfg.channels, len(cfg.channels) - 1
        self.conv_in = nn.Conv2d(cfg.in_channels, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            Level(widths[max(i - 1, 0)], c, cfg.blocks, cfg.groups, Downsample(c, one_sided=True) if i < last else None)
            for i, c in enumerate(widths)
        )
        self.mid_block = MiddleBlock(widths[-1], cfg.groups)
        self.conv_norm_out = nn.GroupNorm(cfg.groups, widths[-1], eps=EPS)
        self.conv_out = nn.Conv2d(widths[-1], 2 * cfg.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.finish(self.start(x))

    def start(self, x: Tensor) -> Tensor:
        """Computes the higher resolutions."""
        x = self.conv_in(x)
        for level in self.down_blocks[:-1]:
            x = level(x)
        return x

    def finish(self, x: Tensor) -> Tensor:
        """Computes the lowest resolution and returns the moments."""
        x = self.mid_block(self.down_blocks[-1](x))
        return self.conv_out(norm_silu(self.conv_norm_out, x))


class Decoder(nn.Module):
    """Latents (B, C, h, w) -> pictures (B, 3, f h, f w), about -1 to 1."""

    def __init__(self, cfg: VAEConfig):
        super().__init__()
        widths, last = cfg.channels[::-1], len(cfg.channels) - 1
        self.conv_in = nn.Conv2d(cfg.latent_channels, widths[0], 3, padding=1)
        self.mid_block = MiddleBlock(widths[0], cfg.groups)
        self.up_blocks = nn.ModuleList(
            Level(widths[max(i - 1, 0)], c, cfg.blocks + 1, cfg.groups, Upsample(c) if i < last else None)
            for i, c in enumerate(widths)
        )
        self.conv_norm_out = nn.GroupNorm(cfg.groups, widths[-1], eps=EPS)
        self.conv_out = nn.Conv2d(widths[-1], cfg.in_channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        return self.finish(self.start(z))

    def start(self, z: Tensor) -> Tensor:
        """Computes the lowest resolution."""
        return cast(Level, self.up_blocks[0]).blocks(self.mid_block(self.conv_in(z)))

    def finish(self, x: Tensor) -> Tensor:
        """Computes the higher resolutions and returns pixels."""
        x = cast(Level, self.up_blocks[0]).step(x)
        for level in self.up_blocks[1:]:
            x = level(x)
        return self.conv_out(norm_silu(self.conv_norm_out, x))


class VAE(nn.Module):
    """Encoder, decoder and the 1x1 convolutions between, if any; latents here are unscaled (see `VAEConfig.scale`).

    `tiled` says whether tasks put pictures through it in tiles: all, none, or by default large ones, and `tile` how
    many pixels wide a tile is; None takes `tiled_vae.SIDE`. `tiny`, if there is one, makes the pictures that tasks
    draw; all else is decoded as ever.
    """

    def __init__(self, cfg: VAEConfig):
        super().__init__()
        self.cfg = cfg
        self.tiled: bool | None = None
        self.tile: int | None = None
        self.tiny: TinyDecoder | None = None
        self.encoder = Encoder(cfg)
        self.decoder = Decoder(cfg)
        if cfg.quant_convs:
            self.quant_conv = nn.Conv2d(2 * cfg.latent_channels, 2 * cfg.latent_channels, 1)
            self.post_quant_conv = nn.Conv2d(cfg.latent_channels, cfg.latent_channels, 1)

    @cached_property
    def in_range(self) -> VAE:
        """The same autoencoder with its streams `STREAM` times as large, so that half precision holds them; kept."""
        result = copy.deepcopy(self)
        for network in (result.encoder, result.decoder):
            _scale_stream(network, STREAM)
        return result

    @cached_property
    def in_full(self) -> VAE:
        """Returns this autoencoder in float32, which is made once and kept."""
        return copy.deepcopy(self).float()

    def forget_copies(self) -> None:
        """Forgets the copies that were kept, after a change of its modules."""
        for name in ("in_full", "in_range"):
            vars(self).pop(name, None)

    def encode(self, x: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1] -> moments (B, 2C, H/f, W/f): mean, then log-variance."""
        moments = self.encoder(x)
        return self.quant_conv(moments) if self.cfg.quant_convs else moments

    def decode(self, z: Tensor) -> Tensor:
        """Unscaled latents (B, C, h, w) -> pictures (B, 3, f h, f w), not clamped."""
        return self.decoder(self.post_quant_conv(z) if self.cfg.quant_convs else z)

    def to_latents(self, mean: Tensor) -> Tensor:
        """Means (B, C, h, w) in the denoising network's units, about unit variance."""
        if self.cfg.mean:
            mean = (mean - per_channel(self.cfg.mean, mean)) / per_channel(self.cfg.std, mean)
        return (mean - self.cfg.shift) * self.cfg.scale

    def from_latents(self, latents: Tensor) -> Tensor:
        """Back from the denoising network's units."""
        mean = latents / self.cfg.scale + self.cfg.shift
        if self.cfg.mean:
            mean = mean * per_channel(self.cfg.std, mean) + per_channel(self.cfg.mean, mean)
        return mean


def with_tiny_decoder(vae: VAE, tiny: TinyDecoder) -> VAE:
    """The autoencoder, on its own weights, with a tiny decoder for the pictures that tasks draw."""
    result = with_shared_weights(vae)
    result.forget_copies()
    result.tiny = tiny
    return result


@torch.no_grad()
def _scale_stream(network: Encoder | Decoder, factor: float) -> None:
    """Scale all that the blocks of a network add up, in place; what the network returns stays the same.

    Every block, and the last layer, begins with a norm, which does not see a scale once its epsilon has it too. A
    power of two changes no digits of the weights.
    """
    norms, sources, linear = [network.conv_norm_out], [network.conv_in], list[nn.Module]()
    for module in network.modules():
        if isinstance(module, ResBlock):
            norms.append(module.norm1)
            sources.append(module.conv2)
            linear += [] if module.conv_shortcut is None else [module.conv_shortcut]
        elif isinstance(module, SpatialAttention):
            norms.append(module.group_norm)
            sources.append(cast(nn.Conv2d, module.to_out[0]))
        elif isinstance(module, Upsample | Downsample):
            linear.append(module.conv)
    for norm in norms:
        norm.eps *= factor**2
    for layer in sources:
        layer.weight.mul_(factor)
    for module in (*sources, *linear):
        cast(Tensor, module.bias).mul_(factor)


def per_channel(values: tuple[float, ...], like: Tensor) -> Tensor:
    """(1, C, 1, 1), of the type and device of a tensor (B, C, h, w)."""
    return torch.tensor(values, device=like.device, dtype=like.dtype)[None, :, None, None]
