"""Networks to which adapters are added while they run, each row of a batch at strengths of its own."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from sfumato.diffusion.cond import Cond
from sfumato.nets.layers import Linear
from sfumato.nets.shared_weights import with_shared_weights
from sfumato.nets.unet import Pointwise


class Strengths(threading.local):
    """How strongly each row of the call in progress is adapted, by slot: what layers ask, which see no conditioning.

    A thread sees those of its own calls, and copies of a network share the object.
    """

    def __init__(self) -> None:
        self._rows: dict[int, tuple[Tensor | None, Tensor]] = {}

    def set(self, strengths: Tensor | None) -> None:
        """Take the strengths (B, S) of a call; None where no row is adapted."""
        self._rows = {}
        for slot, column in enumerate(() if strengths is None else strengths.float().T):
            rows = column.nonzero().flatten()
            if len(rows):
                self._rows[slot] = (None if len(rows) == len(column) else rows, column[rows])

    def of(self, slot: int) -> tuple[Tensor | None, Tensor] | None:
        """The rows that a slot's adapter changes (None: all) and their strengths; None where it changes none."""
        return self._rows.get(slot)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


class Adapted(nn.Module):
    """A layer with the outputs of `differences` added, each by the number of its slot: modules that take what it takes.

    The layer must be linear in its weights, as those of all its kin are: products, convolutions and norms.
    """

    def __init__(self, layer: nn.Module, differences: Mapping[int, nn.Module], strengths: Strengths):
        super().__init__()
        self.layer, self.slots, self.strengths = layer, tuple(differences), strengths
        self.differences = nn.ModuleList(differences.values())

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        for slot, difference in zip(self.slots, self.differences, strict=True):
            asked = self.strengths.of(slot)
            if asked is None:
                continue
            rows, strength = asked
            part = difference(x if rows is None else x[rows])
            part = part * strength.to(part.dtype).reshape(-1, *[1] * (part.dim() - 1))
            y = y + part if rows is None else y.index_add(0, rows, part)
        return y


def listens(network: nn.Module, strengths: Strengths) -> None:
    """Make every call of a network set the strengths by its conditioning's `adapters`, in place."""

    def hear(module: nn.Module, given: tuple[Any, ...]) -> None:
        strengths.set(next(one for one in given if isinstance(one, Cond)).adapters)

    network.register_forward_pre_hook(hear)


class Factor(Linear):
    """A product with a given matrix (out, in)."""

    def __init__(self, weight: Tensor):
        super().__init__(weight.shape[1], weight.shape[0], bias=False, device="meta")
        self.weight = nn.Parameter(weight.contiguous(), requires_grad=False)

    def reset_parameters(self) -> None:
        """Leave the weight to be given."""


class Kernel(nn.Conv2d):
    """A convolution with given weights (out, in, height, width), by default of 1x1."""

    def __init__(self, weight: Tensor, stride: Any = 1, padding: Any = 0):
        out, cin, height, width = weight.shape
        super().__init__(cin, out, (height, width), stride, padding, bias=False, device="meta")
        self.weight = nn.Parameter(weight.contiguous(), requires_grad=False)

    def reset_parameters(self) -> None:
        """Leave the weight to be given."""


def low_rank(layer: nn.Module, up: Tensor, down: Tensor, mid: Tensor | None) -> nn.Module:
    """A module whose output is that of the weight up mid down in a layer's place, by the factors.

    up (out, r), down (r, in) or (r, in, kernel), mid (r, r, kernel) for convolutions.
    """
    if not isinstance(layer, nn.Conv2d) or isinstance(layer, Pointwise):
        return nn.Sequential(Factor(down.flatten(1)), Factor(up))
    up = up[..., None, None]
    if mid is None:
        kernel = down.reshape(len(down), -1, *layer.kernel_size)
        return nn.Sequential(Kernel(kernel, layer.stride, layer.padding), Kernel(up))
    down = down.flatten(1)[..., None, None]
    return nn.Sequential(Kernel(down), Kernel(mid, layer.stride, layer.padding), Kernel(up))


def with_weights(layer: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """A layer of the same kind whose output is that of these weights alone; those not given are zeros."""
    result = with_shared_weights(layer)
    for name, before in layer.named_parameters(recurse=False):
        given = weights[name].to(before) if name in weights else torch.zeros_like(before)
        result.register_parameter(name, nn.Parameter(given, requires_grad=False))
    return result
