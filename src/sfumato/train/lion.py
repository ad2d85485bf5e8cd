"""Lion: steps of one size for every weight, in the direction of the sign of an average gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Lion(torch.optim.Optimizer):
    """The optimizer of Chen et al. 2023, "Symbolic discovery of optimization algorithms", algorithm 2.

    w <- w - lr (sign(b1 m + (1 - b1) g) + decay w), then m <- b2 m + (1 - b2) g. It keeps one number a weight. Its
    authors advise 3 to 10 times less `lr` than AdamW's, and as many times more weight decay.
    """

    def __init__(self, params: Any, lr: float, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override] # no loss is returned
        """Changes all weights that have a gradient."""
        assert closure is None, "the loss is computed once a step"
        for group in self.param_groups:
            first, second = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                average: Tensor = self.state[p].setdefault("exp_avg", torch.zeros_like(p))
                direction = torch.lerp(p.grad, average, first).sign_()
                p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(direction, alpha=group["lr"])
                average.lerp_(p.grad, 1 - second)
