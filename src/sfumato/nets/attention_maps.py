"""How much each place of a picture attends to each token of its text."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.nets import mmdit
from sfumato.nets.ip_adapter import SeesImages
from sfumato.nets.mmdit import MMDiT
from sfumato.nets.shared_weights import with_shared_weights
from sfumato.nets.token_merging import MergedAttention
from sfumato.nets.unet import TransformerLayer, UNet

PATCH = 2  # latents along an edge of a map's finest place
LONGEST = 32  # places along a map's longer edge at most


class AttentionMaps:
    """`network` is a copy, on the same weights, whose calls are watched; `take` gives what the last one attended to.

    The maps are of the first row of a batch. They are means over all heads and over all attentions to the text: the
    cross-attentions of a U-Net, or the joint attentions of a transformer, of which the picture's queries are taken.
    Watching costs the queries and keys a second time. Raises ValueError for a network of another kind.
    """

    def __init__(self, network: nn.Module):
        self.network = with_shared_weights(network)
        core = next((one for one in self.network.modules() if isinstance(one, UNet | MMDiT)), None)
        if core is None:
            raise ValueError(f"attention is watched in a U-Net or a transformer, not in a {type(network).__name__}")
        core.register_forward_pre_hook(self._begin)
        for module in core.modules():
            if isinstance(module, TransformerLayer):
                module.attn2.register_forward_pre_hook(self._cross)
            elif isinstance(module, mmdit.Block):
                module.attn.register_forward_pre_hook(self._joint)
        self._size, self._maps, self._count = (0, 0), torch.zeros(0), 0

    def take(self) -> Tensor | None:
        """The maps (tokens, h, w) of the last call: the share of a place's attention that each token gets.

        None where the call left out all attentions to the text (see `diffusion.step_cache`).
        """
        return self._maps / self._count if self._count else None

    def _begin(self, module: nn.Module, given: tuple[Any, ...]) -> None:
        height, width = given[0].shape[2:]
        self._size, self._maps, self._count = (height, width), torch.zeros(()), 0

    def _cross(self, module: nn.Module, given: tuple[Tensor, ...]) -> None:
        x, context = given
        if isinstance(module, SeesImages):
            context = context[:, : -sum(module.counts) - 1]
            module = module.attention
        q, k = module.in_heads(module.to_q(x)), module.in_heads(module.to_k(context))  # type: ignore[operator]
        self._add(q[0], k[0], 0)

    def _joint(self, module: nn.Module, given: tuple[Tensor, ...]) -> None:
        x, text = given
        attention = module.attention if isinstance(module, MergedAttention) else module
        q, k, _ = attention.projected(x, text)  # type: ignore[operator]
        self._add(q[0, :, : x.shape[1]], k[0], x.shape[1])

    def _add(self, q: Tensor, k: Tensor, first: int) -> None:
        """Adds the attention of queries (nh, P, hs) to the tokens from `first` of keys (nh, L, hs), head by head."""
        shares = torch.zeros((), device=q.device)
        for queries, keys in zip(q.float(), k.float(), strict=True):
            shares = shares + (queries @ keys.T / math.sqrt(q.shape[-1])).softmax(-1)[:, first:]
        maps = (shares / len(q)).T.unflatten(1, self._grid(shares.shape[0]))
        height, width = self._size
        coarse = max(PATCH, math.ceil(max(height, width) / LONGEST))
        side = math.ceil(height / coarse), math.ceil(width / coarse)
        finer = maps.shape[1] < side[0]
        maps = F.interpolate(maps[None], side, mode="bilinear" if finer else "area")[0]
        self._maps, self._count = self._maps.to(maps) + maps, self._count + 1

    def _grid(self, places: int) -> tuple[int, int]:
        """Rows and columns of so many places: those of the latents, halved as often as it takes."""
        height, width = self._size
        while height * width > places:
            height, width = math.ceil(height / 2), math.ceil(width / 2)
        return height, width
