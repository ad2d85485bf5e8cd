"""torch's linear layer and convolution, with a shorter road for inference in float32 on the CPU.

There torch multiplies matrices with one library (MKL, at its best on the processors of its own maker) and convolves
with another (oneDNN), which copies the weights into an order of its own at every call. oneDNN multiplies matrices as
well, fast on every processor and with the weights as they lie; and a convolution is a product of its weights with the
patches of the map. On coarse maps with many channels that product takes a fraction of the time of the copy.

bfloat16 takes the same road where the processor multiplies it by itself; its smaller weights are copied sooner, so only
coarser maps are worth it.

float16 torch convolves on most processors number by number; by way of float32 it takes a thirtieth of the time.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.nets.int8 import int8_conv2d, int8_linear

FURTHER = 1 << 24  # ids from here on are no words of a vocabulary, but vectors that stand for words of a prompt

_onednn: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)


@cache
def multiplies_bfloat16() -> bool:
    """Returns whether this processor multiplies matrices of bfloat16 by itself, at least twice as fast as of float32.

    Others go by way of float32 and are slower.
    """
    return _can("avx512_bf16", "amx_bf16")


@cache
def multiplies_float16() -> bool:
    """Returns whether this processor multiplies matrices of float16 by itself."""
    return _can("avx512_fp16", "amx_fp16")


@cache
def multiplies_int8() -> bool:
    """Returns whether this processor multiplies whole numbers of 8 bits by itself (AVX-512 VNNI or AMX)."""
    return _can("avx512_vnni", "amx_int8") and hasattr(torch.ops.onednn, "qconv_pointwise")


def _can(*features: str) -> bool:
    here: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(here.get(name, False) for name in features)


def _product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """a (..., K) b (N, K)^T + bias (N), by oneDNN. Each matrix must be dense, by rows or by columns."""
    return _onednn(a, b, bias, "none", [], "")  # the last three would fuse a function


def shorter(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether `_product` may stand in, of which torch knows neither gradient nor autocast."""
    learns = any(one is not None and one.requires_grad for one in (x, weight, bias))
    return (
        _onednn is not None
        and bool(torch.backends.mkldnn.enabled)
        and x.is_cpu
        and x.dtype == weight.dtype
        and (x.dtype == torch.float32 or (x.dtype == torch.bfloat16 and multiplies_bfloat16()))
        and not (learns and torch.is_grad_enabled())
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, int8: bool = False) -> Tensor:
    """x (..., K), weight (N, K) or (N, K, 1, 1), bias (N) -> (..., N).

    With `int8` rows of places, (B, L, K), are multiplied in 8 bits, but not vectors of whole pictures, (B, K).
    """
    short = shorter(x, weight, bias)
    if int8 and short and x.ndim > 2:
        return int8_linear(x, weight, bias)
    weight = weight.flatten(1)
    return _product(x.contiguous(), weight, bias) if short else F.linear(x, weight, bias)


class Linear(nn.Linear):
    int8 = False  # whether it multiplies in 8 bits: see `nets.int8`

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias, self.int8)


def look_up(table: nn.Embedding, ids: Tensor, further: Tensor | None) -> Tensor:
    """Rows (B, L, D) of a vocabulary's table by ids (B, L); those from `FURTHER` on are of `further` vectors (E, D)."""
    if further is None:
        return table(ids)
    new = ids >= FURTHER
    rows = table(ids.masked_fill(new, 0))
    return torch.where(new[..., None], further.to(rows)[(ids - FURTHER).clamp(min=0)], rows)


class Conv2d(nn.Conv2d):
    """A convolution with an odd kernel and zeros around: x (B, C, h, w) -> (B, N, h, w), or the sides over `stride`."""

    int8 = False  # as in `Linear`

    def __init__(self, cin: int, cout: int, kernel: int, stride: int = 1):
        super().__init__(cin, cout, kernel, stride, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cpu and x.dtype == self.weight.dtype == torch.float16 and not multiplies_float16():
            bias = None if self.bias is None else self.bias.float()
            return F.conv2d(x.float(), self.weight.float(), bias, self.stride, self.padding).to(x.dtype)
        if self.int8 and shorter(x, self.weight, self.bias):
            return int8_conv2d(x, self.weight, self.bias, self.stride[0], self.kernel_size[0] // 2)
        pointwise = self.kernel_size == self.stride == (1, 1)
        # Twice as many weights as the patches have numbers, or in bfloat16 eight times: where it was measured to pay.
        coarse = self.out_channels > (2 if x.dtype == torch.float32 else 8) * x[:, 0].numel()
        if not (pointwise or coarse) or not shorter(x, self.weight, self.bias):
            return super().forward(x)
        patches = x.flatten(2) if pointwise else F.unfold(x, self.kernel_size, 1, self.kernel_size[0] // 2, self.stride)
        weight = self.weight.flatten(1)
        maps = torch.stack([_product(weight, one.T) for one in patches.contiguous()])
        if self.bias is not None:
            maps += self.bias[:, None]
        return maps.unflatten(2, [(side - 1) // self.stride[0] + 1 for side in x.shape[2:]])
