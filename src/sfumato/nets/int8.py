"""Products and convolutions of whole numbers of 8 bits, for processors that multiply them by themselves.

Weights are rounded once, each output channel by a step of its own; what goes in is rounded at every call: in products
each row by a step of its own, in convolutions each picture. So no picture depends on what else is in the batch. The
sums are exact, in 32 bits. Where the library wants numbers from 0, it is given those from -126 to 126 with 128 added.

The rounded weights lie beside the layer's own ones, from which they are made again whenever these change: a LoRA can be
merged, and a model be saved, as without them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

ZERO = 128  # stands for 0 among unsigned bytes
LAST = "proj_out"  # of a transformer; that of a U-Net cannot
LARGEST = 126  # one less than would fit: rounding in bfloat16 may add as much

_ops: Any = torch.ops.onednn


class Packed(NamedTuple):
    """Rounded weights in oneDNN's order, the step of each output channel (N,), and what they were made of."""

    weight: Tensor
    steps: Tensor
    zeros: Tensor
    made_of: tuple[int, int, torch.dtype]


_packed: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def int8_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x (..., K), weight (N, K) or (N, K, 1, 1), bias (N) -> (..., N); x and the result are float32 or bfloat16."""
    packed = _pack(weight, lambda rounded, _: _ops.qlinear_prepack(rounded.flatten(1), None))
    rounded, step = _rounded(x.contiguous(), (-1,))
    how: Any = (1.0, 0, x.dtype, "none", [], "")  # a result of that type, without a function after the product
    product = _ops.qlinear_pointwise(rounded, 1.0, ZERO, packed.weight, packed.steps, packed.zeros, None, *how)
    return _scaled(product, step, bias)


def int8_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
    """x (B, C, h, w), weight (N, C, k, k), bias (N) -> (B, N, h', w'), as `int8_linear`, channels last in memory."""
    shape: tuple[list[int], ...] = ([stride] * 2, [padding] * 2, [1, 1])

    def pack(rounded: Tensor, steps: Tensor) -> Tensor:
        return _ops.qconv_prepack(rounded, steps, 1.0, ZERO, *shape, 1, list(x.shape))

    packed = _pack(weight, pack)
    rounded, step = _rounded(x.contiguous(memory_format=torch.channels_last), (1, 2, 3))
    how: Any = (1, 1.0, 0, x.dtype, "none", [], "")  # one group; the rest as above
    product = _ops.qconv_pointwise(rounded, 1.0, ZERO, packed.weight, packed.steps, packed.zeros, None, *shape, *how)
    return _scaled(product, step, None if bias is None else bias[:, None, None])


def use_int8(network: nn.Module, on: bool = True) -> None:
    """Lets the layers of a U-Net or a transformer multiply in 8 bits, or no longer, in place.

    The first and the last layer stay as they are, and so do those that see only vectors of whole pictures, such as the
    time.
    """
    for path, module in network.named_modules():
        if hasattr(module, "int8") and path != LAST:
            module.int8 = on


def uses_int8(network: nn.Module) -> bool:
    """Returns whether any layer of a network multiplies in 8 bits."""
    return any(getattr(module, "int8", False) for module in network.modules())


def _rounded(x: Tensor, over: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """x as bytes, and the step of each part of it: one for all numbers along the dimensions `over`."""
    most = x.abs().amax(over, keepdim=True).clamp_(min=1e-30)
    whole = (x * (LARGEST / most)).round_().to(torch.int8)
    return whole.view(torch.uint8).bitwise_xor_(ZERO), most.div_(LARGEST)


def _scaled(product: Tensor, step: Tensor, bias: Tensor | None) -> Tensor:
    return product.mul_(step) if bias is None else torch.addcmul(bias, product, step, out=product)


def _pack(weight: Tensor, pack: Callable[[Tensor, Tensor], Tensor]) -> Packed:
    """The rounded form of weights, made at the first call and again when they have changed."""
    version = 0 if weight.is_inference() else weight._version
    made_of = (version, weight.data_ptr(), weight.dtype)
    packed: Packed | None = _packed.get(weight)
    if packed is None or packed.made_of != made_of:
        exact = weight.detach().float()
        steps = exact.flatten(1).abs().amax(1).clamp_(min=1e-30) / 127
        rounded = (exact / steps.view(-1, *[1] * (exact.ndim - 1))).round_().to(torch.int8)
        packed = Packed(pack(rounded, steps), steps, torch.zeros(len(steps), dtype=torch.int64), made_of)
        _packed[weight] = packed
    return packed
