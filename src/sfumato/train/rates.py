"""How the learning rate rises and falls over a run."""

from __future__ import annotations

import math

from sfumato.train.config import LoopConfig


def learning_rate(cfg: LoopConfig, step: int, steps: int) -> float:
    """Returns the learning rate of step number `step`, from 0, of `steps`."""
    if step < cfg.warmup:
        return cfg.lr * (step + 1) / cfg.warmup
    if cfg.lr_schedule == "constant":
        return cfg.lr
    if cfg.lr_schedule == "cosine":
        share = (step - cfg.warmup) / max(steps - cfg.warmup, 1)
        fall = (1 + math.cos(math.pi * min(share, 1))) / 2
    else:
        fall = min(1.0, max(0.0, (steps - step) / max(cfg.decay * steps, 1)))
    return cfg.lr * (cfg.lr_end + (1 - cfg.lr_end) * fall)
