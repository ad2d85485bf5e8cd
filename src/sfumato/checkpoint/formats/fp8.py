"""Weights of 8 bits with a scale beside them, as ComfyUI and others keep them: value = stored value * scale."""

from __future__ import annotations

import json
import re

import torch
from torch import Tensor

from sfumato.checkpoint.checkpoint import Packed, Stored, WeightFile, quote

EIGHTS = (torch.float8_e4m3fn, torch.float8_e5m2)  # float16 holds them exactly, and torch can compute with it
SCALE = re.compile(r"(.+)\.(scale_weight|weight_scale)")
# What such files also hold: a mark that they are such files, and scales of activations for arithmetic in 8 bits.
MARKS = re.compile(r"(.+\.)?scaled_fp8|.+\.(scale_input|input_scale)")
DESCRIBED = re.compile(r"(.+)\.comfy_quant")
# Formats that are not floating point with a scale, each by a name that it adds to those of a network.
OTHERS = (
    (re.compile(r".+\.(SCB|absmax|quant_map)"), "bitsandbytes in 8 bits"),
    (re.compile(r".+\.(qweight|wscales)"), "AWQ or GPTQ"),
)
LARGE, LOST = 4096, 0.04  # values from which a weight is large, and the share of its norm that 8 bits may lose
ADVICE = "give it as float16, bfloat16, float8, int8, NF4, SVDQuant or GGUF"


def values(file: WeightFile, tensors: dict[str, Stored]) -> dict[str, Stored]:
    """The tensors of a file with scales applied when they are read, and without what only serves the scaling.

    Raises SfumatoError for scales of another kind, and for other formats of integers, by name.
    """
    for pattern, what in OTHERS:
        if name := next((name for name in tensors if pattern.fullmatch(name)), None):
            raise file.error(f"is quantised by {what} (it holds {quote(name)}), which is not read; {ADVICE}")
    result = {name: stored for name, stored in tensors.items() if not MARKS.fullmatch(name)}
    for name, scale in tensors.items():
        if match := DESCRIBED.fullmatch(name):
            _check_described(file, name, result.pop(name))
        elif (match := SCALE.fullmatch(name)) and f"{match[1]}.weight" in tensors:
            weight = tensors[f"{match[1]}.weight"]
            if weight.dtype not in (*EIGHTS, torch.int8):
                raise file.error(
                    f"holds {quote(name)}, the scale of a {weight.kind} tensor, which is not read; {ADVICE}"
                )
            if scale.shape not in ((), (1,), weight.shape[:1], (*weight.shape[:1], *(1 for _ in weight.shape[1:]))):
                raise file.error(
                    f"holds {quote(name)} of the shape {scale.shape}; one scale, or one a row, is expected"
                )
            result[f"{match[1]}.weight"] = _scaled(weight, scale)
            del result[name]
    return result


def _scaled(weight: Stored, scale: Stored) -> Packed:
    def unpack(raw: Tensor) -> Tensor:
        return raw.view(weight.dtype).float().view(weight.shape) * scale.read().float().view(
            -1, *(1 for _ in weight.shape[1:])
        )

    kind = f"{weight.kind} with a scale"
    return Packed(
        weight.file, weight.start, weight.shape, torch.float32, packed=weight.nbytes, format=kind, unpack=unpack
    )


def _check_described(file: WeightFile, name: str, stored: Stored) -> None:
    try:
        stated = json.loads(file.read(stored.start, min(stored.nbytes, 1 << 16)).decode())
        kind = stated["format"]
    except (ValueError, TypeError, LookupError) as error:
        raise file.error(f"describes its quantisation wrongly in {quote(name)}; download it again") from error
    if kind not in ("float8_e4m3fn", "float8_e5m2", "int8_tensorwise"):
        raise file.error(f"is quantised as {quote(str(kind))}, which is not read; {ADVICE}")


def compact(weight: Tensor) -> Tensor:
    """Returns a weight as small files hold it: large matrices and kernels as float8_e4m3fn, others as float16.

    Values of usual sizes lose 2.6% of their norm by it. A weight that would lose more than 4%, because it has very
    large or very small values, is float16 as well.
    """
    if weight.dim() > 1 and weight.numel() >= LARGE:
        rounded = weight.to(torch.float8_e4m3fn)
        if (rounded.float() - weight.float()).norm() <= LOST * weight.float().norm():
            return rounded
    return weight.half()
