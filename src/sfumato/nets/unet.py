"""The denoising U-Net of 1.x, 2.x and XL (Rombach et al. 2022, section 3.3 and appendix E)."""

from __future__ import annotations

import math
from functools import cache
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.diffusion.cond import Cond
from sfumato.diffusion.step_cache import Recall
from sfumato.nets.attend import attend
from sfumato.nets.blocks import Downsample, ResBlock, Upsample, norm_silu
from sfumato.nets.layers import Linear, linear
from sfumato.spec import ID_WIDTH, UNetConfig


@cache
def _frequencies(count: int) -> np.ndarray:
    """10000^(-i/count), float32. The power is taken in float64: in float32 processors and libraries differ in its last
    bit, which times of 1000 and sizes of 1344 make visible."""
    exponents = np.float32(-math.log(10000)) * np.arange(count, dtype=np.float32) / np.float32(count)
    return np.exp(exponents, dtype=np.float64).astype(np.float32)


def sinusoidal(t: Tensor, width: int) -> Tensor:
    """Times (B,) -> embedding (B, width), float32: cosines then sines, periods up to 10000 (Vaswani et al. 2017)."""
    angles = t.float()[:, None] * torch.from_numpy(_frequencies(width // 2)).to(t.device)
    return torch.cat([angles.cos(), angles.sin()], 1)


def guidance_embedding(scale: Tensor, width: int) -> Tensor:
    """Guidance scales w - 1 (B,) -> (B, width), float32: sines then cosines of 1000 (w - 1) (Luo et al. 2023)."""
    rates = torch.exp(torch.arange(width // 2, device=scale.device) * (-math.log(10000) / (width // 2 - 1)))
    angles = 1000 * scale.float()[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)


class TimeEmbedding(nn.Module):
    """Sinusoids (B, cin) -> (B, width), with an embedding (B, guidance) of the guidance scale where there is one."""

    def __init__(self, cin: int, width: int, guidance: int | None = None):
        super().__init__()
        self.linear_1 = Linear(cin, width)
        self.linear_2 = Linear(width, width)
        if guidance is not None:
            self.cond_proj = Linear(guidance, cin, bias=False)

    def forward(self, x: Tensor, guidance: Tensor | None = None) -> Tensor:
        if guidance is not None:
            x = x + self.cond_proj(guidance)
        return self.linear_2(F.silu(self.linear_1(x)))


class Attention(nn.Module):
    """Multi-head attention of x (B, L, C) over context (B, M, D), or over x itself.

    With `identity` every place attends only to itself.
    """

    identity = False

    def __init__(self, channels: int, context: int, heads: int):
        super().__init__()
        self.heads = heads
        self.to_q = Linear(channels, channels, bias=False)
        self.to_k = Linear(context, channels, bias=False)
        self.to_v = Linear(context, channels, bias=False)
        self.to_out = nn.ModuleList([Linear(channels, channels)])

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        context = x if context is None else context
        k, v = self.to_k(context), self.to_v(context)
        return self.put_out(self.in_heads(v) if self.identity else self.looked(self.in_heads(self.to_q(x)), k, v))

    def in_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, L, C) -> (B, nh, L, hs)

    def looked(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Queries (B, nh, L, hs) look at keys and values (B, M, C) -> (B, nh, L, hs)."""
        return attend(q, self.in_heads(k), self.in_heads(v))

    def put_out(self, h: Tensor) -> Tensor:
        """What all heads saw (B, nh, L, hs) -> (B, L, C)."""
        return self.to_out[0](h.transpose(1, 2).flatten(2))


class GEGLU(nn.Module):
    """Gated linear unit with exact GELU (Shazeer 2020)."""

    def __init__(self, cin: int, cout: int):
        super().__init__()
        self.proj = Linear(cin, 2 * cout)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, -1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        # The slot in the middle is the dropout of the layout that names these weights.
        self.net = nn.ModuleList([GEGLU(channels, 4 * channels), nn.Identity(), Linear(4 * channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        return self.net[2](self.net[0](x))


class TransformerLayer(nn.Module):
    """Self-attention, cross-attention to the text, feed-forward; each normalised before and added after.

    With `cross_only` the first attention is to the text as well.
    """

    def __init__(self, channels: int, context: int, heads: int, cross_only: bool):
        super().__init__()
        self.cross_only = cross_only
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = Attention(channels, context if cross_only else channels, heads)
        self.norm2 = nn.LayerNorm(channels)
        self.attn2 = Attention(channels, context, heads)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        x = x + self.attn1(self.norm1(x), context if self.cross_only else None)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


def _tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)  # (B, C, h, w) -> (B, hw, C)


def _map(tokens: Tensor, size: torch.Size) -> Tensor:
    return tokens.transpose(1, 2).unflatten(2, size)  # (B, hw, C) -> (B, C, h, w)


class Pointwise(nn.Conv2d):
    """A product over the channels of tokens (B, L, C), whose weights are kept as those of a 1x1 convolution."""

    int8 = False  # as in `Linear`

    def __init__(self, cin: int, cout: int):
        super().__init__(cin, cout, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        return linear(tokens, self.weight, self.bias, self.int8)


class SpatialTransformer(nn.Module):
    """Transformer layers over the positions of a feature map, with a residual: (B, C, h, w) -> (B, C, h, w)."""

    def __init__(self, channels: int, depth: int, cfg: UNetConfig, cross_only: bool = False):
        super().__init__()
        self.norm = nn.GroupNorm(cfg.groups, channels, eps=1e-6)
        projection = Linear if cfg.linear_projection else Pointwise
        self.proj_in = projection(channels, channels)
        self.transformer_blocks = nn.ModuleList(
            TransformerLayer(channels, cfg.context_dim, cfg.heads_at(channels), cross_only) for _ in range(depth)
        )
        self.proj_out = projection(channels, channels)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        h = self.proj_in(_tokens(self.norm(x)))
        for layer in self.transformer_blocks:
            h = layer(h, context)
        return x + _map(self.proj_out(h), x.shape[2:])


class Level(nn.Module):
    """One resolution: residual blocks, each followed by a transformer of `depths[i]` layers where the level has any."""

    def __init__(self, cins: list[int], depths: tuple[int, ...], level: int, cfg: UNetConfig):
        super().__init__()
        cout, embedding = cfg.channels[level], 4 * cfg.channels[0]
        cross_only = bool(cfg.cross_only) and cfg.cross_only[level]
        self.resnets = nn.ModuleList(ResBlock(cin, cout, cfg.groups, 1e-5, embedding) for cin in cins)
        self.attends = any(depths)
        if self.attends:
            self.attentions = nn.ModuleList(SpatialTransformer(cout, depth, cfg, cross_only) for depth in depths)

    def block(self, i: int, x: Tensor, embedding: Tensor, context: Tensor) -> Tensor:
        """The i-th residual block and its transformer."""
        x = self.resnets[i](x, embedding)
        return self.attentions[i](x, context) if self.attends else x


class DownLevel(Level):
    def __init__(self, cins: list[int], level: int, cfg: UNetConfig, last: bool):
        super().__init__(cins, (cfg.depth[level],) * len(cins), level, cfg)
        if not last:
            self.downsamplers = nn.ModuleList([Downsample(cfg.channels[level])])
        self.last = last

    def forward(
        self, x: Tensor, embedding: Tensor, context: Tensor, added: Tensor | None = None, first: Tensor | None = None
    ) -> list[Tensor]:
        """Every feature map that a skip connection carries; the last is the level's output.

        `added` joins the map of the last block. In a level without attention that halves the map it joins the halved.
        `first` is what the first block returns, if it is known.
        """
        maps = []
        halved = not self.last and not self.attends
        for i in range(len(self.resnets)):
            x = first if i == 0 and first is not None else self.block(i, x, embedding, context)
            if added is not None and not halved and i == len(self.resnets) - 1:
                x = x + added
            maps.append(x)
        if not self.last:
            x = self.downsamplers[0](x)
            maps.append(x if added is None or not halved else x + added)
        return maps


class UpLevel(Level):
    def __init__(self, cins: list[int], level: int, cfg: UNetConfig, last: bool):
        super().__init__(cins, cfg.up_depths(level), level, cfg)
        if not last:
            self.upsamplers = nn.ModuleList([Upsample(cfg.channels[level])])
        self.last = last

    def forward(self, x: Tensor, skips: list[Tensor], embedding: Tensor, context: Tensor) -> Tensor:
        """Takes its skips from the end of the list. The last level leaves its last block to the caller."""
        for i in range(len(self.resnets) - self.last):
            x = self.block(i, torch.cat([x, skips.pop()], 1), embedding, context)
        if self.last:
            return x
        return self.upsamplers[0](x, size=tuple(skips[-1].shape[2:]))


class Middle(nn.Module):
    """The coarsest part: two residual blocks around a transformer, or in distilled models one block or none."""

    def __init__(self, channels: int, cfg: UNetConfig):
        super().__init__()
        blocks = (ResBlock(channels, channels, cfg.groups, 1e-5, 4 * cfg.channels[0]) for _ in range(cfg.middle_blocks))
        self.resnets = nn.ModuleList(blocks)
        attends = cfg.middle_blocks == 2
        self.attentions = nn.ModuleList([SpatialTransformer(channels, cfg.middle_depth, cfg)] if attends else [])

    def forward(self, x: Tensor, embedding: Tensor, context: Tensor) -> Tensor:
        for i, block in enumerate(self.resnets):
            x = block(x, embedding)
            if i < len(self.attentions):
                x = self.attentions[i](x, context)
        return x


def vector(cond: Cond) -> Tensor:
    """Pooled text (B, P), then every number of `cond.ids` (B, K) as sinusoids: (B, P + 256 K) (Podell et al. 2023).

    Raises ValueError for a conditioning without pooled text.
    """
    if cond.pooled is None:
        raise ValueError("this U-Net is conditioned on pooled text; the conditioning has none")
    if cond.ids is None:
        return cond.pooled
    numbers = sinusoidal(cond.ids.flatten(), ID_WIDTH).reshape(len(cond.ids), -1)
    return torch.cat([cond.pooled, numbers.to(cond.pooled.dtype)], 1)


def context_of(cond: Cond) -> Tensor:
    """What cross-attentions look at: the text (B, L, D); where there are pictures, their tokens after it, and then a
    row that begins with the strengths (see `ip_adapter.SeesImages`)."""
    if cond.image_tokens is None or cond.image_strengths is None:
        return cond.tokens
    images, strengths = cond.image_tokens, cond.image_strengths
    row = F.pad(strengths, (0, images.shape[2] - strengths.shape[1]))[:, None]
    return torch.cat([cond.tokens, images.to(cond.tokens), row.to(cond.tokens)], 1)


class UNetEncoder(nn.Module):
    """The way down of a U-Net and its middle, which a ControlNet has a copy of.

    `skips` are the channels of the skip connections, in the order in which they are made.
    """

    def __init__(self, cfg: UNetConfig):
        super().__init__()
        self.cfg = cfg
        widths, last = cfg.channels, len(cfg.channels) - 1
        self.conv_in = nn.Conv2d(cfg.in_channels, widths[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(widths[0], 4 * widths[0], cfg.guidance_dim)
        if cfg.vector_dim is not None:
            self.add_embedding = TimeEmbedding(cfg.vector_dim, 4 * widths[0])
        if cfg.classes is not None:
            self.class_embedding = nn.Embedding(cfg.classes, 4 * widths[0])

        self.skips = [widths[0]]
        self.down_blocks = nn.ModuleList()
        for i, width in enumerate(widths):
            cins = [widths[max(i - 1, 0)]] + [width] * (cfg.blocks - 1)
            self.down_blocks.append(DownLevel(cins, i, cfg, last=i == last))
            self.skips += [width] * (cfg.blocks + (i < last))

        self.mid_block = Middle(widths[-1], cfg)

    def embedding(self, t: Tensor, cond: Cond, dtype: torch.dtype) -> Tensor:
        """Times (B,), with what conditions the whole picture -> (B, 4 channels[0])."""
        guidance = None
        if self.cfg.guidance_dim is not None and cond.guidance is not None:
            guidance = guidance_embedding(cond.guidance, self.cfg.guidance_dim).to(dtype)
        embedding = self.time_embedding(sinusoidal(t, self.cfg.channels[0]).to(dtype), guidance)
        if self.cfg.vector_dim is not None:
            embedding = embedding + self.add_embedding(vector(cond))
        if self.cfg.classes is not None:
            if cond.ids is None:
                raise ValueError("this U-Net is conditioned on a class; the conditioning has none")
            embedding = embedding + self.class_embedding(cond.ids[:, 0].long())
        return embedding

    def encode(
        self, x: Tensor, embedding: Tensor, context: Tensor, features: tuple[Tensor, ...] = (),
        first: Tensor | None = None,
    ) -> tuple[list[Tensor], Tensor]:  # fmt: skip
        """What `conv_in` returned (B, C, h, w) -> the maps of all skip connections, and that of the middle.

        `features` are those of a T2I-Adapter: one for each level, where `DownLevel` adds it, and if there is one more,
        for the middle (Mou et al. 2023). `first` is what the first block of all returns, if it is known.
        """
        skips, levels = [x], len(self.down_blocks)
        for i, level in enumerate(self.down_blocks):
            skips += level(skips[-1], embedding, context, features[i] if features else None, None if i else first)
        x = self.mid_block(skips[-1], embedding, context)
        return skips, x + features[levels] if len(features) > levels else x


class UNet(UNetEncoder):
    """x (B, C, h, w), t (B,) in training steps, cond -> (B, out, h, w).

    `cond.concat` joins x along the channels. Where the configuration says so, a vector of `cond.pooled` and `cond.ids`
    or a class `cond.ids` (B, 1) joins the time, and the guidance scale `cond.guidance`. `control` adds a feature map to
    every skip connection, in the order in which the encoder makes them, and its last one to the middle (Zhang et al.
    2023). `features` are as in `UNetEncoder.encode`. With `recall` all between the first block and the last is left out
    where it may be (see `diffusion.step_cache`).
    """

    def __init__(self, cfg: UNetConfig):
        super().__init__(cfg)
        widths, last, skips = cfg.channels, len(cfg.channels) - 1, list(self.skips)
        self.up_blocks = nn.ModuleList()
        below = widths[-1]
        for i in range(last, -1, -1):
            cins = [(below if j == 0 else widths[i]) + skips.pop() for j in range(cfg.blocks + 1)]
            self.up_blocks.append(UpLevel(cins, i, cfg, last=i == 0))
            below = widths[i]

        self.conv_norm_out = nn.GroupNorm(cfg.groups, widths[0], eps=1e-5)
        self.conv_out = nn.Conv2d(widths[0], cfg.out_channels, 3, padding=1)

    def forward(
        self, x: Tensor, t: Tensor, cond: Cond, control: tuple[Tensor, ...] = (), features: tuple[Tensor, ...] = (),
        recall: Recall | None = None,
    ) -> Tensor:  # fmt: skip
        embedding = self.embedding(t, cond, x.dtype)
        if cond.concat is not None:
            x = torch.cat([x, cond.concat], 1)
        context, x = context_of(cond), self.conv_in(x)
        if recall is None:
            h = self._inner(x, None, embedding, context, control, features)
        else:
            first = cast(Level, self.down_blocks[0]).block(0, x, embedding, context) if recall.measures else None
            change = None if first is None else first - x
            h = recall.inner(change, self._inner, x, first, embedding, context, control, features)
        skip, last = x + control[0] if control else x, cast(Level, self.up_blocks[-1])
        x = last.block(len(last.resnets) - 1, torch.cat([h, skip], 1), embedding, context)
        return self.conv_out(norm_silu(self.conv_norm_out, x))

    def _inner(
        self, x: Tensor, first: Tensor | None, embedding: Tensor, context: Tensor, control: tuple[Tensor, ...],
        features: tuple[Tensor, ...],
    ) -> Tensor:  # fmt: skip
        """What `conv_in` returned -> what the last block takes beside it."""
        skips, x = self.encode(x, embedding, context, features, first)
        if control:
            x = x + control[-1]
            skips = [skip + extra for skip, extra in zip(skips, control[:-1], strict=True)]
        for level in self.up_blocks:
            x = level(x, skips, embedding, context)
        return x
