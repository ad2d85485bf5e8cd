"""Everything that steers a network besides the noisy latents and the time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Cond:
    """Conditioning of B pictures.

    tokens: text (B, L, D). pooled: whole-prompt vector (B, P). ids: size, crop or noise level (B, K).
    concat: extra input channels such as mask or depth (B, C, h, w).
    """

    tokens: Tensor
    pooled: Tensor | None = None
    ids: Tensor | None = None
    concat: Tensor | None = None

    @property
    def batch(self) -> int:
        return self.tokens.shape[0]

    @property
    def shapes(self) -> tuple[torch.Size | None, ...]:
        """Conditionings with equal shapes can be stacked."""
        values = (getattr(self, f.name) for f in fields(self))
        return tuple(None if value is None else value.shape for value in values)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Cond:
        present = {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}
        return Cond(**{name: change(value) for name, value in present.items()})

    def select(self, rows: slice | Tensor) -> Cond:
        """The given rows of the batch."""
        return self._map(lambda value: value[rows])

    def zeros(self) -> Cond:
        """The same shapes, all zeros: what stands for no prompt."""
        return self._map(torch.zeros_like)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Cond:
        """The same conditioning elsewhere or in another precision; `ids` are numbers and stay exact."""
        moved = self._map(lambda value: value.to(device=device, dtype=dtype))
        return moved if self.ids is None else replace(moved, ids=self.ids.to(device=device))

    @staticmethod
    def cat(conds: Sequence[Cond]) -> Cond:
        """Stack along the batch. All must have the same fields and the same token length."""
        names = [f.name for f in fields(Cond) if getattr(conds[0], f.name) is not None]
        return Cond(**{name: torch.cat([getattr(cond, name) for cond in conds]) for name in names})
