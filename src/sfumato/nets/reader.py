"""Reading a prompt: from the states of a text tower to the things that the prompt names.

A few learnt queries look at the words (a perceiver's cross-attention, Jaegle et al. 2021), one for the picture as a
whole and one for each group of equal things. They see every word twice, as the tower understands it in its sentence and
as it stands in the dictionary, so that words that were never seen beside it do not hide a name.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.nets.layers import Linear
from sfumato.nets.layout import ARRANGEMENTS, MAX_COUNT, MAX_GROUPS, PLACES, POSES, SIZES
from sfumato.spec import PriorConfig


@dataclass(frozen=True, eq=False)
class Reading:
    """Logits. Of each picture: `arrangement` (B, 5), `place` (B, 5), `style` (B, S + 1), `ground` (B, G). Of each of
    four groups: `concept` (B, 4, C), `count` (B, 4, 7), `tint` (B, 4, T), `size` (B, 4, 3), `pose` (B, 4, 4).

    The first place, tint, size and pose is "not said"; a count of 0 is "no such group". The last style and the last
    ground are "not said".
    """

    arrangement: Tensor
    place: Tensor
    style: Tensor
    ground: Tensor
    concept: Tensor
    count: Tensor
    tint: Tensor
    size: Tensor
    pose: Tensor


WHOLE = {"arrangement": len(ARRANGEMENTS), "place": len(PLACES) + 1}
GROUP = {"count": MAX_COUNT + 1, "size": len(SIZES) + 1, "pose": len(POSES) + 1}


class Reader(nn.Module):
    """States and embeddings (B, L, D) of words, and how much each counts (B, L), 0 for padding -> Reading."""

    def __init__(self, cfg: PriorConfig):
        super().__init__()
        d = cfg.reader
        self.queries = nn.Parameter(torch.randn(1 + MAX_GROUPS, d) * 0.5)
        self.state_norm, self.word_norm = nn.LayerNorm(cfg.text_dim), nn.LayerNorm(cfg.text_dim)
        self.from_state, self.from_word = Linear(cfg.text_dim, d), Linear(cfg.text_dim, d)
        self.layers = nn.ModuleList(ReaderLayer(d, cfg.reader_heads) for _ in range(cfg.reader_layers))
        self.norm = nn.LayerNorm(d)
        whole = WHOLE | {"style": cfg.styles + 1, "ground": cfg.grounds}
        self.whole = nn.ModuleDict({name: Linear(d, size) for name, size in whole.items()})
        self.group = nn.ModuleDict({name: Linear(d, size) for name, size in (GROUP | {"tint": cfg.tints}).items()})
        self.name = Linear(d, d)
        self.concepts = Linear(d, cfg.concepts)

    def forward(self, states: Tensor, words: Tensor, weights: Tensor) -> Reading:
        there = weights.clamp(min=0).log()[:, None, None]  # (B, 1, 1, L), added to the attention's logits
        seen = self.from_state(self.state_norm(states)) + self.from_word(self.word_norm(words))
        x = self.queries.to(seen.dtype).expand(len(states), -1, -1)
        for layer in self.layers:
            x = layer(x, seen, there)
        x = self.norm(x)
        whole = {name: head(x[:, 0]) for name, head in self.whole.items()}
        group = {name: head(x[:, 1:]) for name, head in self.group.items()}
        return Reading(**whole, **group, concept=self.concepts(self.name(x[:, 1:])))


class ReaderLayer(nn.Module):
    """Queries look at the words, then at each other."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.across, self.among = CrossAttention(width, heads), CrossAttention(width, heads)
        self.norm_1, self.norm_2, self.norm_3 = (nn.LayerNorm(width) for _ in range(3))
        self.fc1, self.fc2 = Linear(width, 2 * width), Linear(2 * width, width)

    def forward(self, x: Tensor, words: Tensor, there: Tensor) -> Tensor:
        x = x + self.across(self.norm_1(x), words, there)
        h = self.norm_2(x)
        x = x + self.among(h, h)
        return x + self.fc2(F.gelu(self.fc1(self.norm_3(x))))


class CrossAttention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v, self.to_out = (Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, seen: Tensor, there: Tensor | None = None) -> Tensor:
        q, k, v = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, nh, L, hs)
            for part in (self.to_q(x), self.to_k(seen), self.to_v(seen))
        )
        mask = None if there is None else there.to(q.dtype)
        return self.to_out(F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2))
