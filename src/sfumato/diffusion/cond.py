"""Everything that steers a network besides the noisy latents and the time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

EXACT = ("ids", "guidance", "adapters")
ROUNDING = 1e-6  # by which a sampler may miss the noise level at which a step begins


@dataclass(frozen=True)
class Cond:
    """Conditioning of B pictures.

    tokens: text (B, L, D). pooled: whole-prompt vector (B, P). ids: size, crop or noise level (B, K).
    concat: extra input channels such as mask or depth (B, C, h, w). guidance: scale minus 1 (B,), for LCM's networks.
    image_tokens: those of pictures that stand for words, of all IP-Adapters (B, N, D), and image_strengths: how much
    each adapter counts (B, adapters).
    hints: what ControlNets and their like made of their hints, each with B rows, and hint_weights: for each of these
    networks the strength of each of its residuals (B, N); see `nets.controlled`.
    adapters: how strongly each adapter that is added at run time counts (B, S); see `nets.adapted`.
    """

    tokens: Tensor
    pooled: Tensor | None = None
    ids: Tensor | None = None
    concat: Tensor | None = None
    guidance: Tensor | None = None
    image_tokens: Tensor | None = None
    image_strengths: Tensor | None = None
    hints: tuple[Tensor, ...] = ()
    hint_weights: tuple[Tensor, ...] = ()
    adapters: Tensor | None = None

    @property
    def batch(self) -> int:
        return self.tokens.shape[0]

    @property
    def shapes(self) -> tuple[torch.Size | tuple[torch.Size, ...] | None, ...]:
        """Conditionings with equal shapes can be stacked."""
        values = (getattr(self, f.name) for f in fields(self))
        return tuple(
            None if value is None else value.shape if isinstance(value, Tensor) else tuple(one.shape for one in value)
            for value in values
        )

    @staticmethod
    def combined(conds: Sequence[Cond], change: Callable[[Sequence[Tensor]], Tensor]) -> Cond:
        """The conditioning whose every tensor `change` makes of those of `conds`, which must have the same fields."""
        made: dict[str, Any] = {}
        for name in (f.name for f in fields(Cond)):
            values = [getattr(cond, name) for cond in conds]
            if isinstance(values[0], Tensor):
                made[name] = change(values)
            elif values[0] is not None:
                made[name] = tuple(change(parts) for parts in zip(*values, strict=True))
        return Cond(**made)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Cond:
        return Cond.combined([self], lambda values: change(values[0]))

    def at(self, sigma: float) -> Cond:
        """Returns itself: it is the same at every noise level."""
        return self

    def select(self, rows: slice | Tensor) -> Cond:
        """The given rows of the batch."""
        return self._map(lambda value: value[rows])

    def zeros(self) -> Cond:
        """Returns zeros of the same shapes, which stand for no prompt."""
        return self._map(torch.zeros_like)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Cond:
        """Returns it elsewhere or in another precision; `EXACT` fields are numbers and stay so."""
        moved = self._map(lambda value: value.to(device=device, dtype=dtype))
        exact = {name: value for name in EXACT if (value := getattr(self, name)) is not None}
        return replace(moved, **{name: value.to(device=device) for name, value in exact.items()})

    @staticmethod
    def cat(conds: Sequence[Cond]) -> Cond:
        """Stack along the batch. All must have the same fields and the same token length."""
        return Cond.combined(conds, lambda values: torch.cat(list(values)))


@dataclass(frozen=True, eq=False)
class ScheduledCond:
    """Conditioning that changes over the steps: `conds[i]` holds from the noise level `levels[i]` to the next.

    The levels fall. Whoever asks says at which level, not which call it is: samplers ask several times a step, between
    steps, or again at levels that they have left.
    """

    levels: tuple[float, ...]
    conds: tuple[Cond, ...]

    def at(self, sigma: float) -> Cond:
        """Returns the conditioning at a noise level."""
        begun = sum(level >= sigma * (1 - ROUNDING) for level in self.levels)
        return self.conds[max(0, begun - 1)]

    def map(self, change: Callable[[Cond], Cond]) -> ScheduledCond:
        """Changes each conditioning; equal ones stay one object, so that the network is asked about it once."""
        changed = {id(cond): change(cond) for cond in self.conds}
        return ScheduledCond(self.levels, tuple(changed[id(cond)] for cond in self.conds))
