"""Differences of a network's layers that learn, by the formulas that files' differences have (see `deltas`).

The network itself stays as it is: training computes with a copy on its weights in which the layers that learn are
exchanged for ones with a difference added.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from sfumato.adapters.components import differences
from sfumato.errors import SfumatoError
from sfumato.nets.shared_weights import with_shared_weights
from sfumato.nets.unet import Pointwise

Kind = Literal["lora", "dora", "loha", "lokr"]
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Shape:
    """The kind and the sizes of differences: `rank` and `alpha` of products, `conv_rank` and `conv_alpha` of kernels.

    The difference is scaled by alpha / rank. An alpha of 0 stands for the rank, a `conv_rank` of 0 leaves kernels as
    they are. `factor` is the largest side of LoKr's first factor. Raises SfumatoError for sizes that make no sense.
    """

    kind: Kind = "lora"
    rank: int = 8
    alpha: float = 0.0
    conv_rank: int = 0
    conv_alpha: float = 0.0
    factor: int = 8

    def __post_init__(self) -> None:
        for name, least in (("rank", 1), ("conv_rank", 0), ("factor", 2)):
            if getattr(self, name) < least:
                raise SfumatoError(f"{name} is {getattr(self, name)}; expected a whole number from {least}")
        for name in ("alpha", "conv_alpha"):
            if getattr(self, name) < 0:
                raise SfumatoError(f"{name} is {getattr(self, name)}; expected a positive number, or 0 for the rank")

    def of(self, layer: nn.Module) -> tuple[int, float]:
        """The rank and alpha for a layer; rank 0 leaves it as it is."""
        rank, alpha = (self.conv_rank, self.conv_alpha) if _is_kernel(layer) else (self.rank, self.alpha)
        return rank, alpha or float(rank)


class Difference(nn.Module):
    """The difference of one layer's weight, zero at first. Its parameters are called as in `components`.

    It starts as its authors say: LoRA's (Hu et al. 2021), LoHa's and LoKr's (Yeh et al. 2023), DoRA's (Liu et al.
    2024).
    """

    def __init__(self, layer: nn.Module, shape: Shape):
        super().__init__()
        rank, alpha = shape.of(layer)
        self.kind, self.rank, self.alpha = shape.kind, rank, alpha
        weight = layer.get_parameter("weight")
        for name, value in FIRST[shape.kind](weight.detach().float().cpu(), rank, shape.factor).items():
            self.register_parameter(name, nn.Parameter(value))

    def delta(self, weight: Tensor) -> Tensor:
        """Returns what is added to the layer's weight, float32, of its shape."""
        held = dict(self.named_parameters())
        return differences("", {name: name for name in held}, held.__getitem__, self.alpha)["weight"].delta(weight)

    def components(self) -> dict[str, Tensor]:
        """Returns what a file keeps, with alpha."""
        held = {name: value.detach() for name, value in self.named_parameters()}
        return held | {"alpha": torch.tensor(self.alpha)}


class Learning(nn.Module):
    """A layer that stays as it is, with a difference added that learns."""

    def __init__(self, layer: nn.Module, difference: Difference):
        super().__init__()
        self.layer, self.difference = layer, difference

    def forward(self, x: Tensor) -> Tensor:
        if self.difference.kind == "lora":  # by the factors, which is faster than by their product
            return self._low_rank(x)
        weight = self.layer.get_parameter("weight")
        changed = weight.float() + self.difference.delta(weight.float())
        return functional_call(self.layer, {"weight": changed.to(weight.dtype)}, (x,))

    def _low_rank(self, x: Tensor) -> Tensor:
        """The layer's output with the product of the factors added to it, without a tensor for the product alone."""
        down, up = (self.difference.get_parameter(name) for name in ("down", "up"))
        scale, layer = self.difference.alpha / self.difference.rank, self.layer
        if isinstance(layer, nn.Conv2d) and not isinstance(layer, Pointwise):
            kernel = down.to(x.dtype).reshape(len(down), -1, *layer.kernel_size)
            low = F.conv2d(x, kernel, None, layer.stride, layer.padding)
            return layer(x) + F.conv2d(low * scale, up.to(x.dtype).flatten(1)[..., None, None])
        low, plain = F.linear(x, down.to(x.dtype).flatten(1)), layer(x)
        product = torch.addmm(plain.flatten(0, -2), low.flatten(0, -2), up.to(x.dtype).flatten(1).T, alpha=scale)
        return product.view(plain.shape)


class Differences(nn.ModuleDict):
    """The differences of a network's layers, by the layers' names with dots written as underscores.

    `paths` are the names themselves.
    """

    def __init__(self, found: Mapping[str, Difference]):
        super().__init__({path.replace(".", "_"): one for path, one in found.items()})
        self.paths = tuple(found)

    def by_path(self) -> Iterator[tuple[str, Difference]]:
        """The differences with their layers' names."""
        for path in self.paths:
            one = self[path.replace(".", "_")]
            assert isinstance(one, Difference)
            yield path, one


def learning(network: Network, shape: Shape, patterns: Sequence[str]) -> tuple[Network, Differences]:
    """Returns the network, on its own weights, with differences that learn, and these.

    The layers are those whose names fit one of the `patterns`, such as "*.attn1.*"; kernels are left out where
    `conv_rank` is 0. The network's own weights are told not to learn. Raises SfumatoError where no layer fits.
    """
    chosen = {
        path: layer
        for path, layer in network.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d)
        and shape.of(layer)[0]
        and any(fnmatchcase(path, pattern) for pattern in patterns)
    }
    if not chosen:
        some = ", ".join(path for path, layer in network.named_modules() if isinstance(layer, nn.Linear))
        shown = some if len(some) < 200 else f"{some[:200]} ..."
        raise SfumatoError(f"no layer is called {' or '.join(patterns)}; layers of this network are {shown}")
    network.requires_grad_(False)
    found = {path: Difference(layer, shape) for path, layer in chosen.items()}
    result = with_shared_weights(network)
    for path, difference in found.items():
        above, _, name = path.rpartition(".")
        setattr(result.get_submodule(above), name, Learning(result.get_submodule(path), difference))
    return result, Differences(found)


def _is_kernel(layer: nn.Module) -> bool:
    """Whether a layer is a convolution of more than one pixel."""
    return isinstance(layer, nn.Conv2d) and math.prod(layer.kernel_size) > 1


def _kaiming(*shape: int) -> Tensor:
    """Uniform numbers up to sqrt(1 / inputs), as torch's own layers start (He et al. 2015, with a = sqrt 5)."""
    return torch.empty(shape).uniform_(-1, 1) / math.prod(shape[1:]) ** 0.5


def _lora(weight: Tensor, rank: int, factor: int) -> dict[str, Tensor]:
    ones = (1,) * (weight.dim() - 2)
    return {"up": torch.zeros(len(weight), rank, *ones), "down": _kaiming(rank, *weight.shape[1:])}


def _dora(weight: Tensor, rank: int, factor: int) -> dict[str, Tensor]:
    lengths = weight.flatten(1).norm(dim=1).reshape(-1, *[1] * (weight.dim() - 1))
    return _lora(weight, rank, factor) | {"magnitude": lengths}


def _loha(weight: Tensor, rank: int, factor: int) -> dict[str, Tensor]:
    out, width = len(weight), weight[0].numel()
    return {
        "hada_w1_a": 0.1 * torch.randn(out, rank), "hada_w1_b": torch.randn(rank, width),
        "hada_w2_a": torch.zeros(out, rank), "hada_w2_b": torch.randn(rank, width),
    }  # fmt: skip


def _lokr(weight: Tensor, rank: int, factor: int) -> dict[str, Tensor]:
    (out_1, out_2), (in_1, in_2) = (_divided(side, factor) for side in weight.shape[:2])
    kernel = weight.shape[2:]
    first = {"lokr_w1": _kaiming(out_1, in_1)}
    if 2 * rank >= max(out_2, in_2):  # two factors would hold more than the product
        return first | {"lokr_w2": torch.zeros(out_2, in_2, *kernel)}
    return first | {"lokr_w2_a": torch.zeros(out_2, rank), "lokr_w2_b": _kaiming(rank, in_2 * math.prod(kernel))}


def _divided(side: int, factor: int) -> tuple[int, int]:
    """Two numbers whose product is `side`, the first at most `factor` and as large as can be."""
    first = next(n for n in range(min(factor, side), 0, -1) if side % n == 0)
    return first, side // first


FIRST: Mapping[Kind, Callable[[Tensor, int, int], dict[str, Tensor]]] = {
    "lora": _lora, "dora": _dora, "loha": _loha, "lokr": _lokr,
}  # fmt: skip
