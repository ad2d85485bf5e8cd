"""How the learning rate rises and falls over a run."""

from __future__ import annotations

import math

from sfumato.train.config import LoopConfig


def learning_rate(cfg: LoopConfig, step: int, steps: int, peak: float | None = None) -> float:
    """Returns the learning rate of step number `step`, from 0, of `steps`; `peak` stands for the recipe's `lr`."""
    peak = cfg.lr if peak is None else peak
    if step < cfg.warmup:
        return peak * (step + 1) / cfg.warmup
    return peak * (cfg.lr_end + (1 - cfg.lr_end) * fall(cfg, step, steps))


def fall(cfg: LoopConfig, step: int, steps: int) -> float:
    """Returns how much is left, from 1 to 0, of what the rate falls by after its warm-up.

    With p from 0 to 1 over the steps after the warm-up: "cosine" is (1 + cos pi p) / 2, "cosine_restarts" the same of
    the fraction of `cycles` p (Loshchilov & Hutter 2017, equation 5), "linear" 1 - p, "polynomial" (1 - p)^`power`,
    "cooldown" falls linearly over the last share `decay` of all steps.
    """
    p = min(1.0, (step - cfg.warmup) / max(steps - cfg.warmup, 1))
    match cfg.lr_schedule:
        case "constant":
            return 1.0
        case "cosine":
            return (1 + math.cos(math.pi * p)) / 2
        case "cosine_restarts":
            return (1 + math.cos(math.pi * (cfg.cycles * p % 1.0))) / 2 if p < 1 else 0.0
        case "linear":
            return 1 - p
        case "polynomial":
            return (1 - p) ** cfg.power
        case "cooldown":
            return min(1.0, max(0.0, (steps - step) / max(cfg.decay * steps, 1)))
