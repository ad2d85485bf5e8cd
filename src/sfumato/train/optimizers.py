"""The rules by which gradients change weights."""

from __future__ import annotations

import torch
from torch import nn

from sfumato.train.config import LoopConfig


def optimizer_for(networks: nn.Module, cfg: LoopConfig, device: torch.device) -> torch.optim.Optimizer:
    """Returns AdamW; weight decay applies to matrices and kernels only."""
    parameters = [p for p in networks.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": cfg.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=cfg.lr, betas=(cfg.beta1, cfg.beta2), fused=device.type in ("cuda", "cpu"))
