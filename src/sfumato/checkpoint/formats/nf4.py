"""Weights of 4 bits as bitsandbytes keeps them (NF4 and FP4; Dettmers et al. 2023, sections 2 and 3).

A weight's values, in order, are cut into blocks. A value is one of 16 numbers, times the largest absolute value of its
block. Two values share a byte, the first one in its upper half. The blocks' largest values may be kept in 8 bits
themselves, in larger blocks and about a mean (double quantisation).
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import torch
from torch import Tensor

from sfumato.checkpoint.checkpoint import Packed, Stored, WeightFile, quote

STATE = re.compile(r"(.+)\.quant_state\.bitsandbytes__(nf4|fp4)")
PARTS = ("absmax", "quant_map", "nested_absmax", "nested_quant_map")


def values(file: WeightFile, tensors: dict[str, Stored]) -> dict[str, Stored]:
    """The tensors of a file with those of 4 bits unpacked when they are read, and without what only serves that.

    Raises SfumatoError for a weight that lacks a part, or whose description or size does not fit.
    """
    result = dict(tensors)
    for name in tensors:
        if match := STATE.fullmatch(name):
            weight = match[1]
            described = _described(file, name, result.pop(name))
            parts = {part: one for part in PARTS if (one := result.pop(f"{weight}.{part}", None)) is not None}
            needed = PARTS if "nested_offset" in described else PARTS[:2]
            if lacking := [one for one in (*(f"{weight}.{part}" for part in needed), weight) if one not in tensors]:
                raise file.error(f"lacks {quote(lacking[0])}, which {quote(name)} needs; download it again")
            result[weight] = _unpacked(file, tensors[weight], weight, described, parts, match[2])
    return result


def _described(file: WeightFile, name: str, stored: Stored) -> dict[str, Any]:
    try:
        stated = json.loads(file.read(stored.start, min(stored.nbytes, 1 << 16)).decode())
        sizes = [stated["blocksize"], *stated["shape"]]
        if "nested_offset" in stated:
            sizes.append(stated["nested_blocksize"])
            stated["nested_offset"] = float(stated["nested_offset"])
        if not all(type(one) is int and one > 0 for one in sizes):
            raise ValueError("sizes are whole numbers above 0")
    except (ValueError, TypeError, LookupError) as error:
        raise file.error(f"describes its quantisation wrongly in {quote(name)}; download it again") from error
    return stated


def _unpacked(
    file: WeightFile, weight: Stored, name: str, described: dict[str, Any], parts: dict[str, Stored], kind: str
) -> Packed:
    shape, block = tuple(described["shape"]), described["blocksize"]
    count = math.prod(shape)
    sizes = {"absmax": -(-count // block), "quant_map": 16}
    if "nested_offset" in described:
        sizes |= {"nested_absmax": -(-sizes["absmax"] // described["nested_blocksize"]), "nested_quant_map": 256}
    if weight.nbytes != -(-count // 2) or any(math.prod(parts[one].shape) != size for one, size in sizes.items()):
        raise file.error(f"holds {quote(name)}, or its scales, of another size than it says; download it again")

    def unpack(raw: Tensor) -> Tensor:
        digits = torch.stack([raw >> 4, raw & 15], 1).flatten()[:count]
        scales = _scales(described, parts).repeat_interleave(block)[:count]
        return parts["quant_map"].read().float().flatten()[digits.int()] * scales

    return Packed(
        weight.file, weight.start, shape, torch.float32, packed=weight.nbytes, format=f"{kind} of 4 bits", unpack=unpack
    )


def _scales(described: dict[str, Any], parts: dict[str, Stored]) -> Tensor:
    """The largest absolute value of every block."""
    kept = parts["absmax"].read().flatten()
    if "nested_offset" not in described:
        return kept.float()
    digits = parts["nested_quant_map"].read().float().flatten()[kept.int()]
    outer = parts["nested_absmax"].read().float().flatten()
    return digits * outer.repeat_interleave(described["nested_blocksize"])[: len(digits)] + described["nested_offset"]
