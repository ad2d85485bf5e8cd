"""Token merging (Bolya & Hoffman 2023): self-attentions that look at places which resemble each other as one.

Before a self-attention, places of the map that are nearly equal become one token, their mean; after it, each gets what
that token got. Attention costs the square of the number of tokens. The queries are merged as well, so a picture drawn
this way loses some fine detail.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.nets.mmdit import MMDiT
from sfumato.nets.perturbed import self_attentions
from sfumato.nets.shared_weights import with_shared_weights
from sfumato.nets.unet import UNet

CELL = 2  # places along the side of a cell, of which one is a target that others are merged into


class Grid(threading.local):
    """The sides of the latents that the call in progress is about: what attentions ask, which see no map.

    A thread sees those of its own calls, and copies of a network share the object.
    """

    sides = (0, 0)

    def of(self, tokens: int) -> tuple[int, int] | None:
        """Rows and columns of a map with so many places, which is the latents' size or a fraction of it, or None."""
        height, width = self.sides
        sizes = ((-(-height // part), -(-width // part)) for part in range(1, max(height, width) + 1))
        return next((size for size in sizes if size[0] * size[1] == tokens), None)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


class MergedAttention(nn.Module):
    """A self-attention of a share fewer tokens: x (B, L, C), and what else the attention takes -> as the attention."""

    def __init__(self, attention: nn.Module, share: float, grid: Grid):
        super().__init__()
        self.attention, self.share, self.grid = attention, share, grid

    def forward(self, x: Tensor, beside: Tensor | None = None) -> Any:
        size = self.grid.of(x.shape[1])
        if size is None or min(size) < CELL:
            return self.attention(x, beside)
        matching = Matching(x, *size, self.share)
        answer = self.attention(matching.merged(x), beside)
        if isinstance(answer, tuple):
            return matching.unmerged(answer[0]), *answer[1:]
        return matching.unmerged(answer)


class Matching:
    """Which of the places of a map x (B, L, C) of `height` x `width` are merged: `share` of all, the most alike.

    One place of each cell is a target. Each other place has one target that is most like it by the cosine; the pairs
    that are most alike are merged.
    """

    def __init__(self, x: Tensor, height: int, width: int, share: float):
        self.targets, self.others = (part.to(x.device) for part in _divided(height, width))
        self.length = x.shape[1]
        unit = F.normalize(x, dim=2)
        likeness, target = (unit[:, self.others] @ unit[:, self.targets].transpose(1, 2)).max(2)
        count = min(int(share * self.length), len(self.others))
        order = likeness.argsort(1, descending=True)
        self.gone, self.left = order[:, :count, None], order[:, count:, None]  # (B, n, 1), of `others`
        self.into = target.gather(1, order[:, :count])[..., None]

    def merged(self, x: Tensor) -> Tensor:
        """The tokens (B, fewer, C): those that are left, then the targets."""
        others, targets = x[:, self.others], x[:, self.targets]
        left, gone = (others.gather(1, _wide(rows, x)) for rows in (self.left, self.gone))
        return torch.cat([left, targets.scatter_reduce(1, _wide(self.into, x), gone, "mean")], 1)

    def unmerged(self, x: Tensor) -> Tensor:
        """Tokens as `merged` has them (B, fewer, C) -> one for every place (B, L, C)."""
        left, targets = x.split([self.left.shape[1], len(self.targets)], 1)
        result = x.new_empty(x.shape[0], self.length, x.shape[2])
        result[:, self.targets] = targets
        for rows, tokens in ((self.left, left), (self.gone, targets.gather(1, _wide(self.into, x)))):
            result.scatter_(1, _wide(self.others[rows], x), tokens)
        return result


def _wide(rows: Tensor, like: Tensor) -> Tensor:
    return rows.expand(-1, -1, like.shape[2])


@cache
def _divided(height: int, width: int) -> tuple[Tensor, Tensor]:
    """The numbers of the places that are targets, one in each whole cell, and those of all others.

    The targets lie where chance put them, always the same: so a picture does not depend on what is drawn beside it.
    """
    rows, columns = height // CELL, width // CELL
    chance = torch.Generator().manual_seed(0)
    within = torch.randint(CELL**2, (rows, columns), generator=chance, device="cpu")
    y = CELL * torch.arange(rows, device="cpu")[:, None] + within // CELL
    x = CELL * torch.arange(columns, device="cpu") + within % CELL
    targets = (y * width + x).flatten()
    is_target = torch.zeros(height * width, dtype=torch.bool, device="cpu")
    is_target[targets] = True
    return targets, (~is_target).nonzero().flatten()


def with_token_merging(network: nn.Module, share: float) -> nn.Module:
    """The network, on its own weights, whose self-attentions on its finest maps merge `share` of the places.

    At most all are merged but the targets, which are a quarter. The attentions are all of a transformer, or those of a
    U-Net's finest level with any, else of its middle.
    """
    result, grid = with_shared_weights(network), Grid()
    for name, attention in self_attentions(result).items():
        if name.startswith(_finest(result)):
            owner, _, own = name.rpartition(".")
            setattr(result.get_submodule(owner), own, MergedAttention(attention, share, grid))

    def note(module: nn.Module, given: tuple[Any, ...]) -> None:
        grid.sides = tuple(given[0].shape[2:])

    result.register_forward_pre_hook(note)
    return result


def _finest(network: nn.Module) -> tuple[str, ...]:
    """How the names of the modules begin that see the finest maps with attention."""
    if isinstance(network, MMDiT):
        return ("transformer_blocks.",)
    assert isinstance(network, UNet)
    cfg = network.cfg
    attends = (any((cfg.depth[i], *cfg.up_depths(i))) for i in range(len(cfg.channels)))
    itself = (one and not (cfg.cross_only and cfg.cross_only[i]) for i, one in enumerate(attends))
    level = next((i for i, one in enumerate(itself) if one), None)
    if level is None:
        return ("mid_block.",)
    return (f"down_blocks.{level}.", f"up_blocks.{len(cfg.channels) - 1 - level}.")
