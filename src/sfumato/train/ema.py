"""Exponential moving average of weights, as Stable Diffusion was sampled from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    """Exponential moving averages of a module's parameters.

    The decay of update n is the smaller of `decay` and (1 + n) / (10 + n), so that early weights fade fast. The
    averages are moved at every `every`-th step, by as much as so many steps would; `after` so many steps, before which
    they are the weights themselves. With `decay` 0 there are no averages: `average` are the weights, without copies.
    """

    def __init__(self, module: nn.Module, decay: float, every: int = 1, after: int = 0):
        self.decay, self._every, self._after = decay, every, after
        self._live = dict(module.named_parameters())
        self.average = {name: p.detach().clone() if decay else p.detach() for name, p in self._live.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Moves the averages towards the weights after step number `step`, counted from 0."""
        if not self.decay or (step + 1) % self._every:
            return
        step -= self._after
        decay = min(self.decay, (1 + step) / (10 + step)) ** self._every if step >= 0 else 0.0
        torch._foreach_lerp_(list(self.average.values()), list(self._live.values()), 1 - decay)

    def load(self, average: Mapping[str, Tensor]) -> None:
        """Takes over saved averages, by the names of the module's parameters."""
        if not self.decay:
            return
        for name, value in self.average.items():
            value.copy_(average[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Gives the module the averages inside the context, and afterwards its own weights again, bit for bit."""
        if not self.decay:
            yield
            return
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
