"""Everything that steers a network besides the noisy latents and the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

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

    def _map(self, change) -> Cond:
        return Cond(*(None if (value := getattr(self, f.name)) is None else change(value) for f in fields(self)))

    def select(self, rows: slice | Tensor) -> Cond:
        """The given rows of the batch."""
        return self._map(lambda value: value[rows])

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Cond:
        """The same conditioning elsewhere or in another precision."""
        return self._map(lambda value: value.to(device=device, dtype=dtype))

    @staticmethod
    def cat(conds: Sequence[Cond]) -> Cond:
        """Stack along the batch. All must have the same fields and the same token length."""
        columns = ([getattr(cond, f.name) for cond in conds] for f in fields(Cond))
        return Cond(*(None if column[0] is None else torch.cat(column) for column in columns))
