"""Adapters with random weights, for tiny models."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sfumato.nets.layers import Linear


def random_lora(
    network: nn.Module, size: float = 0.1, rank: int = 2, seed: int = 0, prefix: str = "lora_unet_",
    more: Sequence[str] = (),
) -> dict[str, Tensor]:  # fmt: skip
    """A LoRA of all linear layers of a network, under kohya's names and those of `more` layers."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}

    def add(layer: str, shape: Sequence[int]) -> None:
        tensors[f"{layer}.lora_up.weight"] = size * torch.randn(shape[0], rank, generator=generator)
        tensors[f"{layer}.lora_down.weight"] = size * torch.randn(rank, shape[1], generator=generator)
        tensors[f"{layer}.alpha"] = torch.tensor(float(rank))

    for name, module in network.named_modules():
        if isinstance(module, Linear):
            add(prefix + name.replace(".", "_"), module.weight.shape)
    for name in more:
        add(prefix + name, (8, 8))
    return tensors
