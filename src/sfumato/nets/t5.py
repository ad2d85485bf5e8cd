"""The encoder of T5 1.1 (Raffel et al. 2020; Shazeer 2020): relative positions, gated GELU, no biases."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.nets.layers import Linear, look_up
from sfumato.spec import T5Config

BUCKETS, FARTHEST = 32, 128  # of relative positions; beyond the farthest all distances are one
BIAS = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"


def buckets(length: int) -> Tensor:
    """The bucket (L, L) of every pair of positions: exact when near, by the logarithm when far, after and before."""
    places = torch.arange(length)
    offset = places[None] - places[:, None]
    half, exact = BUCKETS // 2, BUCKETS // 4
    far = (offset.abs().float() / exact).clamp(min=1).log() / math.log(FARTHEST / exact) * (half - exact)
    distance = torch.where(offset.abs() < exact, offset.abs(), (exact + far.long()).clamp(max=half - 1))
    return distance + half * (offset > 0)


class Norm(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, 1e-6)


def finite(x: Tensor) -> Tensor:
    """The states of XXL go beyond what float16 holds: its largest number stands for those (as transformers has it)."""
    if x.dtype != torch.float16:
        return x
    largest = torch.finfo(x.dtype).max
    return x.clamp(-largest, largest)


class SelfAttention(nn.Module):
    """Attention without scaling; the first block's holds the position bias that all blocks share."""

    def __init__(self, cfg: T5Config, first: bool):
        super().__init__()
        inner, self.heads = cfg.heads * cfg.head_dim, cfg.heads
        self.q, self.k, self.v = (Linear(cfg.hidden_size, inner, bias=False) for _ in range(3))
        self.o = Linear(inner, cfg.hidden_size, bias=False)
        if first:
            self.relative_attention_bias = nn.Embedding(BUCKETS, cfg.heads)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        q, k, v = (
            project(x).unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, nh, L, hs)
            for project in (self.q, self.k, self.v)
        )
        h = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
        return self.o(h.transpose(1, 2).flatten(2))


class GatedGELU(nn.Module):
    def __init__(self, cfg: T5Config):
        super().__init__()
        self.wi_0, self.wi_1 = (Linear(cfg.hidden_size, cfg.intermediate_size, bias=False) for _ in range(2))
        self.wo = Linear(cfg.intermediate_size, cfg.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.wo(F.gelu(self.wi_0(x), approximate="tanh") * self.wi_1(x))


class AttentionLayer(nn.Module):
    def __init__(self, cfg: T5Config, first: bool):
        super().__init__()
        self.SelfAttention = SelfAttention(cfg, first)
        self.layer_norm = Norm(cfg.hidden_size)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        return finite(x + self.SelfAttention(self.layer_norm(x), bias))


class FeedForwardLayer(nn.Module):
    def __init__(self, cfg: T5Config):
        super().__init__()
        self.DenseReluDense = GatedGELU(cfg)
        self.layer_norm = Norm(cfg.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return finite(x + self.DenseReluDense(self.layer_norm(x)))


class Block(nn.Module):
    def __init__(self, cfg: T5Config, first: bool):
        super().__init__()
        self.layer = nn.ModuleList([AttentionLayer(cfg, first), FeedForwardLayer(cfg)])

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        attention, feed_forward = self.layer
        return feed_forward(attention(x, bias))


class Encoder(nn.Module):
    def __init__(self, cfg: T5Config):
        super().__init__()
        self.block = nn.ModuleList(Block(cfg, first=i == 0) for i in range(cfg.layers))
        self.final_layer_norm = Norm(cfg.hidden_size)


class T5(nn.Module):
    """Token ids (B, L) -> last states (B, L, D). Padding is attended to, as in the code of 3 and 3.5.

    For ids of `further` vectors (E, D) see `look_up`.
    """

    def __init__(self, cfg: T5Config):
        super().__init__()
        self.cfg = cfg
        self.shared = nn.Embedding(cfg.vocab_size, cfg.hidden_size)
        self.encoder = Encoder(cfg)

    def forward(self, ids: Tensor, further: Tensor | None = None) -> Tensor:
        x = look_up(self.shared, ids, further)
        table = self.encoder.get_parameter(BIAS)
        bias = F.embedding(buckets(ids.shape[1]).to(ids.device), table).permute(2, 0, 1)[None]  # (1, nh, L, L)
        for block in self.encoder.block:
            x = block(x, bias)
        return self.encoder.final_layer_norm(x)
