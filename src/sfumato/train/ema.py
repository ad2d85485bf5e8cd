"""Exponential moving average of weights, as Stable Diffusion was sampled from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    """Exponential moving averages of a module's parameters.

    The decay of update n is the smaller of `decay` and (1 + n) / (10 + n), so that early weights fade fast.
    """

    def __init__(self, module: nn.Module, decay: float):
        self.decay = decay
        self._live = dict(module.named_parameters())
        self.average = {name: p.detach().clone() for name, p in self._live.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Moves the averages towards the weights after step number `step`, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.average.values()), list(self._live.values()), 1 - decay)

    def load(self, average: dict[str, Tensor]) -> None:
        """Takes over saved averages, by the names of the module's parameters."""
        for name, value in self.average.items():
            value.copy_(average[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Gives the module the averages inside the context, and afterwards its own weights again, bit for bit."""
        own = {name: p.detach().clone() for name, p in self._live.items()}
        try:
            self._copy(self.average)
            yield
        finally:
            self._copy(own)

    @torch.no_grad()
    def _copy(self, values: dict[str, Tensor]) -> None:
        for name, p in self._live.items():
            p.copy_(values[name])
