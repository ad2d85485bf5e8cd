"""What an unCLIP network is told of a picture: CLIP's vector of it, under noise (Ramesh et al. 2022)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class VectorStatistics(nn.Module):
    """Mean and spread (1, D) of the vectors of training, between which and unit vectors noise is added."""

    def __init__(self, width: int):
        super().__init__()
        self.mean, self.std = nn.Parameter(torch.zeros(1, width)), nn.Parameter(torch.ones(1, width))

    def noised(self, vector: Tensor, kept: Tensor, noise: Tensor) -> Tensor:
        """Vectors (B, D) of whose variance the share `kept` is left under unit noise (B, D)."""
        mean, std = self.mean.to(vector), self.std.to(vector)
        return (kept.sqrt() * (vector - mean) / std + (1 - kept).sqrt() * noise) * std + mean
