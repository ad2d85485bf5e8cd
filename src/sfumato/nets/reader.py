"""Reading a prompt: from the states of a text tower to the things that the prompt names.

A few learnt queries look at the words (a perceiver's cross-attention, Jaegle et al. 2021), one for the picture as a
whole and one for each group of equal things. They see every word twice, as the tower understands it in its sentence and
as it stands in the dictionary, so that words that were never seen beside it do not hide a name; and they see which
words are phrases of the lexicon. Each phrase is then given to one of the groups, or to none, and speaks for its
concepts there, as pointer networks copy words of a text (Vinyals et al. 2015). A phrase for a value, such as a colour,
belongs to the thing that is named before or after it, or to the picture as a whole, or to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.nets.layers import Linear
from sfumato.nets.layout import ARRANGEMENTS, MAX_COUNT, MAX_GROUPS, PLACES, POSES, SIZES
from sfumato.nets.lexicon import Found
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

    def row(self, i: int) -> Reading:
        """The reading of the picture at place i alone."""
        return Reading(**{f.name: getattr(self, f.name)[i : i + 1] for f in fields(self)})


WHOLE = {"arrangement": len(ARRANGEMENTS), "place": len(PLACES) + 1}
GROUP = {"count": MAX_COUNT + 1, "size": len(SIZES) + 1, "pose": len(POSES) + 1}


LEXICON = 5.0  # how much a phrase that speaks of one concept or value alone adds to its logit
MARKS = 3  # of a token: whether it is in a name, in a keyword, and begins a phrase; then those of `value_ranges`
SIDES = 4  # to what a value belongs: the thing before it, the thing after it, the picture as a whole, nothing


def value_ranges(cfg: PriorConfig) -> dict[str, range]:
    """The places of a lexicon's values by the field that they are of, in their fields' order; "not said" is none.

    The last, "surface", is no field: it marks what may lie behind things, whose colour is the ground's.
    """
    sizes = {"count": MAX_COUNT, "tint": cfg.tints - 1, "size": len(SIZES), "pose": len(POSES)}
    sizes |= {"place": len(PLACES), "style": cfg.styles, "ground": cfg.grounds - 1, "surface": 1}
    ends = list(accumulate(sizes.values()))
    return {name: range(end - size, end) for (name, size), end in zip(sizes.items(), ends, strict=True)}


def value_count(cfg: PriorConfig) -> int:
    """How many values a lexicon knows."""
    return value_ranges(cfg)["surface"].stop


@dataclass(frozen=True, eq=False)
class Phrases:
    """The phrases of B texts that a lexicon knows, P of each at most: `tokens` (B, P, L), `scores` (B, P, C), `named`
    (B, P) and `values` (B, P, V), see `nets.lexicon.Found`; all zeros where a text has fewer."""

    tokens: Tensor
    scores: Tensor
    named: Tensor
    values: Tensor

    @classmethod
    def of(cls, found: Sequence[Found]) -> Phrases:
        """The phrases of texts whose token rows may have different lengths."""
        most = max(1, *(len(each.named) for each in found))
        length = max(each.tokens.shape[1] for each in found)
        return cls(
            torch.stack([F.pad(f.tokens, (0, length - f.tokens.shape[1], 0, most - len(f.tokens))) for f in found]),
            torch.stack([F.pad(f.scores, (0, 0, 0, most - len(f.scores))) for f in found]),
            torch.stack([F.pad(f.named, (0, most - len(f.named))) for f in found]),
            torch.stack([F.pad(f.values, (0, 0, 0, most - len(f.named))) for f in found]),
        )

    def to(self, device: torch.device) -> Phrases:
        return Phrases(*(getattr(self, f.name).to(device) for f in fields(self)))

    def things(self) -> Tensor:
        """Which phrases speak of concepts (B, P), 0 or 1."""
        return self.scores.any(2).to(self.scores.dtype)

    def marks(self, ranges: dict[str, range]) -> Tensor:
        """What is known of each token (B, L, MARKS + fields); `ranges` are those of `value_ranges`."""
        first = (self.tokens.cumsum(2) * self.tokens == 1).any(1).to(self.tokens.dtype)
        of_phrase = [self.named, (1 - self.named) * self.things()]
        of_phrase += [self.values[..., span.start : span.stop].sum(2).clamp(max=1) for span in ranges.values()]
        names, keywords, *kinds = (self.tokens * each[..., None] for each in of_phrase)
        return torch.stack([names.amax(1), keywords.amax(1), first, *(kind.amax(1) for kind in kinds)], -1)


class Reader(nn.Module):
    """States and embeddings (B, L, D) of words, how much each counts (B, L), 0 for padding, and the known phrases among
    them -> Reading."""

    def __init__(self, cfg: PriorConfig):
        super().__init__()
        d, self.ranges = cfg.reader, value_ranges(cfg)
        self.queries = nn.init.normal_(nn.Parameter(torch.empty(1 + MAX_GROUPS, d)), std=0.5)
        self.state_norm, self.word_norm = nn.LayerNorm(cfg.text_dim), nn.LayerNorm(cfg.text_dim)
        self.from_state, self.from_word = Linear(cfg.text_dim, d), Linear(cfg.text_dim, d)
        self.layers = nn.ModuleList(ReaderLayer(d, cfg.reader_heads) for _ in range(cfg.reader_layers))
        self.norm = nn.LayerNorm(d)
        whole = WHOLE | {"style": cfg.styles + 1, "ground": cfg.grounds}
        self.whole = nn.ModuleDict({name: Linear(d, size) for name, size in whole.items()})
        self.group = nn.ModuleDict({name: Linear(d, size) for name, size in (GROUP | {"tint": cfg.tints}).items()})
        self.name = Linear(d, d)
        self.concepts = Linear(d, cfg.concepts)
        self.from_marks = Linear(MARKS + len(self.ranges), d)
        self.phrase_norm = nn.LayerNorm(d)
        self.phrase, self.owner = Linear(d, d), Linear(d, d)
        self.unowned = Linear(d, 1)
        self.sides = Linear(d, SIDES)

    def forward(self, states: Tensor, words: Tensor, weights: Tensor, phrases: Phrases) -> Reading:
        there = weights.clamp(min=0).log()[:, None, None]  # (B, 1, 1, L), added to the attention's logits
        seen = self.from_state(self.state_norm(states)) + self.from_word(self.word_norm(words))
        seen = seen + self.from_marks(phrases.marks(self.ranges).to(seen.dtype))
        x = self.queries.to(seen.dtype).expand(len(states), -1, -1)
        for layer in self.layers:
            x = layer(x, seen, there)
        x = self.norm(x)
        whole = {name: head(x[:, 0]) for name, head in self.whole.items()}
        group = {name: head(x[:, 1:]) for name, head in self.group.items()}
        concept = self.concepts(self.name(x[:, 1:])).float().log_softmax(-1)
        owned, of_whole = (shares.float() for shares in self._owners(x[:, 1:], seen, phrases, weights))
        # Of things that it never learnt it cannot say how likely they are: phrases alone speak for them.
        new = phrases.scores.shape[2] - concept.shape[2]
        concept = torch.cat([concept, concept.amax(2, keepdim=True).expand(-1, -1, new)], 2) if new else concept
        concept = concept + LEXICON * torch.einsum("bpg,bpc->bgc", owned[0], phrases.scores.float())
        values = phrases.values.float()
        of_group = LEXICON * torch.einsum("bpg,bpv->bgv", owned[1], values)
        of_picture = LEXICON * torch.einsum("bp,bpv->bv", of_whole, values)
        group = {name: self._told(name, logits, of_group) for name, logits in group.items()}
        whole = {name: self._told(name, logits, of_picture) for name, logits in whole.items()}
        return Reading(**whole, **group, concept=concept)

    def _told(self, name: str, logits: Tensor, values: Tensor) -> Tensor:
        """A field's logits with what the values (..., V) add to them. "Not said" comes first or last."""
        if name not in self.ranges:
            return logits
        span, last = self.ranges[name], name in ("style", "ground")
        return logits + F.pad(values[..., span.start : span.stop], (0, 1) if last else (1, 0)).to(logits.dtype)

    def _owners(self, groups: Tensor, seen: Tensor, phrases: Phrases, weights: Tensor) -> tuple[Tensor, Tensor]:
        """The shares of each phrase that belong to each group, at most 1 together: as the name of a thing and as a
        value of one (2, B, P, 4); and what belongs to the picture as a whole as a value (B, P)."""
        tokens = phrases.tokens.to(seen.dtype)
        size = tokens.sum(2, keepdim=True).clamp(min=1)
        h = self.phrase_norm(tokens @ seen / size)  # (B, P, d), the mean of its tokens
        logits = self.phrase(h) @ self.owner(groups).transpose(1, 2) / h.shape[-1] ** 0.5
        heard = (tokens @ weights.clamp(0, 1).to(seen.dtype)[..., None]) / size
        shares = torch.cat([logits, self.unowned(h)], -1).softmax(-1)[..., :-1] * heard
        before, after, whole, _ = (self.sides(h).softmax(-1) * heard).unbind(-1)
        named = shares * phrases.things().to(shares.dtype)[..., None]
        beside = before[..., None] * _nearest(named) + after[..., None] * _nearest(named.flip(1)).flip(1)
        return torch.stack([shares, beside]), whole


def _nearest(shares: Tensor) -> Tensor:
    """Of each phrase, to which group the thing that was last named before it belongs: (B, P, 4) -> (B, P, 4).

    As far as a phrase belongs to no group it is passed over.
    """
    nearest, last = [], torch.zeros_like(shares[:, 0])
    for own in shares.unbind(1):
        nearest.append(last)
        last = own + (1 - own.sum(-1, keepdim=True)) * last
    return torch.stack(nearest, 1)


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
