"""A network together with ControlNets and T2I-Adapters, which are asked first and steer it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import cast

from torch import Tensor, nn

from sfumato.diffusion.cond import Cond
from sfumato.diffusion.step_cache import Recall
from sfumato.nets.controlnet import ControlNet, MMDiTControlNet, Prepared, T2IAdapter
from sfumato.nets.mmdit import MMDiT

Control = ControlNet | MMDiTControlNet | T2IAdapter


class Controlled(nn.Module):
    """x (B, C, h, w), t (B,), cond -> what `network` draws with the residuals of its `controls`.

    `cond.hints` are what the controls' `prepare` returned, one control's after the other's, and `cond.hint_weights` the
    strengths (B, N) of their residuals. A control is asked about the rows only in which it has any strength. Rows
    without hints are the network's own. With `recall` inner blocks of the network are left out where they may be (see
    `diffusion.step_cache`), those of the controls never.
    """

    def __init__(self, network: nn.Module, controls: Sequence[Control]):
        super().__init__()
        self.network = network
        self.controls = nn.ModuleList(controls)

    def forward(
        self, x: Tensor, t: Tensor, cond: Cond, control: tuple[Tensor, ...] = (), recall: Recall | None = None
    ) -> Tensor:
        plain = replace(cond, hints=(), hint_weights=())
        residuals: list[Tensor] = list(control)
        features: list[Tensor] = []
        for one, prepared, weights in self._active(cond):
            if isinstance(one, T2IAdapter):
                scaled = [_scaled(weight, each) for weight, each in zip(weights.unbind(1), prepared, strict=True)]
                features = _sum(features, scaled)
            else:
                residuals = self._sum_of_depth(residuals, self._asked(one, x, t, plain, prepared, weights))
        more = {} if recall is None else {"recall": recall}
        return self.network(x, t, plain, tuple(residuals), *((tuple(features),) if features else ()), **more)

    def _active(self, cond: Cond) -> Iterator[tuple[Control, Prepared, Tensor]]:
        """Each control that has any strength, with its part of the hints and its strengths."""
        hints = list(cond.hints)
        for module, weights in zip(self.controls, cond.hint_weights, strict=bool(cond.hint_weights)):
            one = cast(Control, module)
            prepared = tuple(hints.pop(0) for _ in range(one.parts))
            if weights.any():
                yield one, prepared, weights

    def _asked(
        self, one: Control, x: Tensor, t: Tensor, cond: Cond, prepared: Prepared, weights: Tensor
    ) -> list[Tensor]:
        """The residuals of a control for all rows, weighted; zeros in rows without strength."""
        rows = weights.any(1).nonzero().flatten()
        every = len(rows) == len(x)
        if not every:
            x, t, cond = x[rows], t[rows], cond.select(rows)
            prepared = tuple(each[rows] for each in prepared)
        asked = (x, t, cond, prepared)
        if isinstance(one, MMDiTControlNet):
            base = cast(MMDiT, inner(self.network))
            made = one(*asked, base.pos_embed, base.time_text_embed.text_embedder)
        else:
            made = one(*asked)
        scaled = [_scaled(weight[rows], each) for weight, each in zip(weights.unbind(1), made, strict=True)]
        if every:
            return scaled
        return [each.new_zeros(len(weights), *each.shape[1:]).index_copy_(0, rows, each) for each in scaled]

    def _sum_of_depth(self, first: list[Tensor], second: list[Tensor]) -> list[Tensor]:
        """The sums of two networks' residuals, each spread over the blocks of a transformer where they are not as many.

        A transformer spreads fewer residuals than it has blocks evenly over them.
        """
        if first and len(first) != len(second):
            depth = len(cast(MMDiT, inner(self.network)).transformer_blocks)
            first, second = ([each[i * len(each) // depth] for i in range(depth)] for each in (first, second))
        return _sum(first, second)


def inner(network: nn.Module) -> nn.Module:
    """The network itself, where it is asked through another module (`Controlled`, `seamless.Rolled`)."""
    within = getattr(network, "network", None)
    return inner(within) if isinstance(within, nn.Module) else network


def _scaled(weight: Tensor, maps: Tensor) -> Tensor:
    """Maps (B, ...), each row times its weight (B,)."""
    return maps * weight.to(maps.dtype).view(-1, *[1] * (maps.ndim - 1))


def _sum(first: list[Tensor], second: list[Tensor]) -> list[Tensor]:
    return [a + b for a, b in zip(first, second, strict=True)] if first else second
