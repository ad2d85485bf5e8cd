"""LAION's aesthetic predictors (Schuhmann et al. 2022): how much people like a picture, from CLIP's vector of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.nets.layers import Linear


class AestheticPredictor(nn.Module):
    """Unit vectors (B, widths[0]) of pictures -> scores (B,): linear layers, with ReLU between them if `rectified`."""

    def __init__(self, widths: Sequence[int], rectified: bool = False):
        super().__init__()
        self.reads, self.rectified = widths[0], rectified
        self.layers = nn.ModuleList(Linear(a, b) for a, b in pairwise((*widths, 1)))

    def forward(self, x: Tensor) -> Tensor:
        for place, layer in enumerate(self.layers):
            x = layer(F.relu(x) if place and self.rectified else x)
        return x[:, 0]
