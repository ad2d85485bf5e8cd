"""IP-Adapter (Ye et al. 2023): cross-attentions that look at tokens of a picture besides those of the text.

A projection makes tokens of what a vision tower says of a picture, once; at every step each cross-attention adds what
it sees of them, by keys and values of their own, times a strength for every row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.nets.clip_vision import ImageStates
from sfumato.nets.layers import Linear
from sfumato.nets.shared_weights import with_shared_weights
from sfumato.nets.unet import Attention, TransformerLayer, UNet

HEAD = 64  # width of a resampler's heads
TOKENS = 4  # that the plain projection makes of a picture's vector


class Projection(nn.Module):
    """The vector of a picture -> tokens (B, TOKENS, D)."""

    of_states = False

    def __init__(self, seen: int, width: int):
        super().__init__()
        self.proj = Linear(seen, TOKENS * width)
        self.norm = nn.LayerNorm(width)

    def forward(self, states: ImageStates) -> Tensor:
        return self.norm(self.proj(states.vector).unflatten(1, (TOKENS, -1)))


class FullProjection(nn.Module):
    """Every patch of a picture as a token: (B, 1 + patches, D), of the last layer but one."""

    of_states = True

    def __init__(self, seen: int, inner: int, width: int):
        super().__init__()
        self.proj = nn.Sequential(Linear(seen, inner), nn.GELU(), Linear(inner, width), nn.LayerNorm(width))

    def forward(self, states: ImageStates) -> Tensor:
        return self.proj(states.hidden[-2])


class ResamplerAttention(nn.Module):
    """Queries look at the patches and at each other."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.heads = inner // HEAD
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_q, self.to_kv = Linear(width, inner, bias=False), Linear(width, 2 * inner, bias=False)
        self.to_out = Linear(inner, width, bias=False)

    def forward(self, seen: Tensor, x: Tensor) -> Tensor:
        seen, x = self.norm1(seen), self.norm2(x)
        keys, values = self.to_kv(torch.cat([seen, x], 1)).chunk(2, -1)
        q, k, v = (one.unflatten(2, (self.heads, -1)).transpose(1, 2) for one in (self.to_q(x), keys, values))
        return self.to_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Resampler(nn.Module):
    """IP-Adapter Plus: learnt queries look at all patches of the last layer but one (Alayrac et al. 2022, section 2.1)
    -> tokens (B, queries, D)."""

    of_states = True

    def __init__(self, seen: int, hidden: int, width: int, queries: int, depth: int, inner: int, wide: int):
        super().__init__()
        self.latents = nn.Parameter(torch.zeros(1, queries, hidden))
        self.proj_in, self.proj_out = Linear(seen, hidden), Linear(hidden, width)
        self.norm_out = nn.LayerNorm(width)
        self.layers = nn.ModuleList(
            nn.ModuleList([
                ResamplerAttention(hidden, inner),
                nn.Sequential(
                    nn.LayerNorm(hidden), Linear(hidden, wide, bias=False), nn.GELU(), Linear(wide, hidden, bias=False)
                ),
            ])
            for _ in range(depth)
        )  # fmt: skip

    def forward(self, states: ImageStates) -> Tensor:
        seen = self.proj_in(states.hidden[-2])
        x = self.latents.expand(len(seen), -1, -1)
        for layer in self.layers:
            attention, feed_forward = cast(nn.ModuleList, layer)
            x = x + attention(seen, x)
            x = x + feed_forward(x)
        return self.norm_out(self.proj_out(x))


class ImageAttention(nn.Module):
    """Keys and values of a picture's tokens, by the names of files."""

    def __init__(self, context: int, channels: int):
        super().__init__()
        self.to_k_ip, self.to_v_ip = (Linear(context, channels, bias=False) for _ in range(2))


class IPAdapter(nn.Module):
    """`image_proj` makes the tokens of a picture; `ip_adapter` has the layers of every cross-attention of a U-Net, in
    the order of `cross_attentions`."""

    def __init__(self, image_proj: Projection | FullProjection | Resampler, layers: Sequence[ImageAttention]):
        super().__init__()
        self.image_proj = image_proj
        self.ip_adapter = nn.ModuleList(layers)

    @property
    def seen(self) -> int:
        """The width of what it is told of a picture."""
        first = {Projection: "proj", FullProjection: "proj.0", Resampler: "proj_in"}[type(self.image_proj)]
        layer = self.image_proj.get_submodule(first)
        assert isinstance(layer, nn.Linear)
        return layer.in_features

    def count(self, states: int) -> int:
        """How many tokens it makes of a picture of which the vision tower has so many states."""
        if isinstance(self.image_proj, Resampler):
            return self.image_proj.latents.shape[1]
        return states if self.image_proj.of_states else TOKENS

    def tokens(self, seen: ImageStates, unseen: ImageStates) -> tuple[Tensor, Tensor]:
        """The tokens of a picture, and those that stand for none: of zeros in place of its vector, or `unseen`, what
        the tower says of a picture of zeros."""
        if not self.image_proj.of_states:
            unseen = ImageStates((), torch.zeros_like(seen.vector))
        return self.image_proj(seen), self.image_proj(unseen)


class SeesImages(nn.Module):
    """A cross-attention that looks at pictures besides.

    x (B, L, C), context (B, M, D): the text's tokens, those of each adapter's pictures, as many as `counts` says, and
    a row that begins with the strengths of all adapters (see `unet.context_of`).
    """

    def __init__(self, attention: Attention, layers: Sequence[ImageAttention], counts: Sequence[int]):
        super().__init__()
        self.attention = attention
        self.layers = nn.ModuleList(layers)
        self.counts = list(counts)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        attention, beside = self.attention, sum(self.counts) + 1
        text, images, strengths = context[:, :-beside], context[:, -beside:-1], context[:, -1, : len(self.counts)]
        q = attention.in_heads(attention.to_q(x))
        h = attention.looked(q, attention.to_k(text), attention.to_v(text))
        for k, (tokens, layer) in enumerate(zip(images.split(self.counts, 1), self.layers, strict=True)):
            layers = cast(ImageAttention, layer)
            seen = attention.looked(q, layers.to_k_ip(tokens), layers.to_v_ip(tokens))
            h = h + strengths[:, k, None, None, None] * seen
        return attention.put_out(h)


def cross_attentions(network: UNet) -> list[TransformerLayer]:
    """The layers with a cross-attention in the order in which IP-Adapter's files count them: on the way down, on the
    way up, in the middle."""
    parts = (network.down_blocks, network.up_blocks, network.mid_block)
    return [layer for part in parts for layer in part.modules() if isinstance(layer, TransformerLayer)]


def with_image_prompts(network: UNet, adapters: Sequence[tuple[IPAdapter, int]]) -> UNet:
    """The network, on its own weights, as one that looks at pictures: adapters, each with its number of tokens.

    It takes `Cond.image_tokens` (B, all tokens, D) and `Cond.image_strengths` (B, adapters).
    """
    result = with_shared_weights(network)
    counts = [count for _, count in adapters]
    for place, layer in enumerate(cross_attentions(result)):
        layers = [cast(ImageAttention, adapter.ip_adapter[place]) for adapter, _ in adapters]
        setattr(layer, "attn2", SeesImages(layer.attn2, layers, counts))  # noqa: B010 (another kind of module)
    return result
