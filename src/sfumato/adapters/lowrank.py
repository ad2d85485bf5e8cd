"""Small changes to large weights: W + B A, with B and A of low rank (Hu et al. 2021, LoRA, section 4.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sfumato.checkpoint.variant import delta


class LowRank(nn.Module):
    """A weight's difference of rank `rank`, zero at first; as a parametrization it adds itself to the weight."""

    def __init__(self, shape: torch.Size, rank: int):
        super().__init__()
        self.shape = tuple(shape)
        width = shape.numel() // shape[0]
        self.up = nn.Parameter(torch.zeros(shape[0], rank))
        self.down = nn.Parameter(torch.randn(rank, width) / width**0.5)

    def delta(self) -> Tensor:
        return delta(self.up, self.down, self.shape)

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.delta()


class Full(nn.Module):
    """The difference of a small tensor, or of one that changes its shape: every value for itself."""

    def __init__(self, shape: torch.Size):
        super().__init__()
        self.full = nn.Parameter(torch.zeros(shape))

    def delta(self) -> Tensor:
        return self.full

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.delta()


class Adapter(nn.Module):
    """The differences of a network's weights, which alone learn: low-rank where that is smaller, else in full.

    The network computes with them added as long as the adapter is attached; its own weights stay as they are. `whole`
    names tensors that get a full difference whatever their size.
    """

    def __init__(self, network: nn.Module, rank: int, whole: tuple[str, ...] = ()):
        super().__init__()
        network.requires_grad_(False)
        self.by_name: dict[str, LowRank | Full] = {}
        for path, module in list(network.named_modules()):
            for name, weight in list(module.named_parameters(recurse=False)):
                full = f"{path}.{name}" if path else name
                small = weight.dim() < 2 or rank * (len(weight) + weight[0].numel()) >= weight.numel()
                in_full = small or full in whole
                difference = Full(weight.shape) if in_full else LowRank(weight.shape, rank)
                self.by_name[full] = difference
                parametrize.register_parametrization(module, name, difference)
        self.differences = nn.ModuleList(self.by_name.values())

    def deltas(self) -> Iterator[tuple[str, Tensor]]:
        """The differences by the names of the network's tensors."""
        return ((name, difference.delta()) for name, difference in self.by_name.items())

    def tensors(self) -> dict[str, Tensor]:
        """What a file keeps: the factors, or the full difference, of every tensor."""
        return {
            f"{name}.{part}": value.detach()
            for name, difference in self.by_name.items()
            for part, value in difference.named_parameters()
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `tensors` of an earlier adapter of the same network and rank gave."""
        for name, difference in self.by_name.items():
            difference.load_state_dict({part: tensors[f"{name}.{part}"] for part, _ in difference.named_parameters()})
