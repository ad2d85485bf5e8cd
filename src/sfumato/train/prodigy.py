"""Prodigy: AdamW that finds the size of its steps by itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch


class Prodigy(torch.optim.Optimizer):
    """The optimizer of Mishchenko & Defazio 2024, "Prodigy: an expeditiously adaptive parameter-free learner",
    algorithm 4.

    d estimates the distance from the first weights w0 to good ones, from below: d = max(d, r / |s|_1), where r averages
    lr d^2 <g, w0 - w> and s averages lr d^2 g, with factor sqrt(b2). The steps are Adam's with rate lr d, so `lr` is a
    factor, usually 1. All parameters share one d, whichever group they are in; groups with other rates keep their
    ratio. It keeps four numbers a weight.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1.0,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        eps: float = 1e-8,
        d0: float = 1e-6,
    ):
        super().__init__(
            params, {"lr": lr, "betas": betas, "weight_decay": weight_decay, "eps": eps, "d": d0, "r": 0.0}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override] # no loss is returned
        """Changes all weights that have a gradient."""
        assert closure is None, "the loss is computed once a step"
        learning = [(group, p) for group in self.param_groups for p in group["params"] if p.grad is not None]
        if not learning:
            return
        d, r, size = float(self.param_groups[0]["d"]), float(self.param_groups[0]["r"]), 0.0
        r *= math.sqrt(self.param_groups[0]["betas"][1])
        for group, p in learning:
            moved, length = self._averaged(group, p, d)
            r += moved
            size += length
        found = max(d, r / size) if size else d
        for group, p in learning:
            state = self.state[p]
            rate = group["lr"] * d
            p.mul_(1 - rate * group["weight_decay"])
            p.addcdiv_(state["exp_avg"], state["exp_avg_sq"].sqrt().add_(d * group["eps"]), value=-rate)
        for group in self.param_groups:
            group["d"], group["r"] = found, r

    def _averaged(self, group: dict[str, Any], p: torch.Tensor, d: float) -> tuple[float, float]:
        """Takes a weight's gradient into its averages; returns what it adds to r, and |s|_1."""
        state, gradient = self.state[p], p.grad
        assert gradient is not None
        if not state:
            state["first"] = p.detach().clone()
            state |= {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq", "s")}
        first, second = group["betas"]
        share = math.sqrt(second)
        weight = (1 - share) * group["lr"] * d * d
        moved = weight * torch.dot(gradient.flatten().float(), (state["first"] - p).flatten().float()).item()
        state["s"].mul_(share).add_(gradient, alpha=weight)
        state["exp_avg"].mul_(first).add_(gradient, alpha=(1 - first) * d)
        state["exp_avg_sq"].mul_(second).addcmul_(gradient, gradient, value=(1 - second) * d * d)
        return moved, state["s"].abs().sum().item()
