"""Weights of 4 bits with a low-rank part beside them (SVDQuant, Li et al. 2024), in the order of Nunchaku's files.

A weight (N, K) is (Q * scales) / smooth + up down: Q are whole numbers from -8 to 7 with a scale for every 64 inputs of
an output, smooth has a number for every input, up and down have the rank of the low-rank part. The paper's layer
divides its inputs by `smooth` and rounds them to 4 bits as well; here the weight is unpacked and the inputs stay as
they are.

All are kept in the order in which the threads of a GPU take them up: in tiles of 128 outputs and 64 inputs.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sfumato.checkpoint.checkpoint import Packed, Stored, WeightFile, quote

CONFIG = "quantization_config"  # of a file's metadata; ours has the true "shapes" of weights that were padded
TILE, GROUP, PATCH = 128, 64, 16  # outputs of a tile; inputs of a tile and of a scale; sides of a low-rank part's tiles
FUSED = {"to_qkv": ("to_q", "to_k", "to_v")}
NAMES = {"smooth": ("smooth", "smooth_factor"), "down": ("lora_down", "proj_down"), "up": ("lora_up", "proj_up")}
UNUSED = ("smooth_orig", "smooth_factor_orig")
OTHERS = ("wcscales", "wtscale", "wzeros")  # of NVFP4 and of AWQ


def pack_digits(digits: Tensor) -> Tensor:
    """Whole numbers (N, K) from -8 to 7 as bytes (N, K / 2), two in each; N and K are multiples of 128."""
    n, k = digits.shape
    tiles = digits.reshape(n // TILE, 8, 2, 8, k // GROUP, 2, 4, 8).permute(0, 4, 1, 3, 6, 2, 5, 7)
    low, high = (tiles.to(torch.uint8) & 15).reshape(-1, 2).unbind(1)
    return (low | high << 4).view(torch.int8).reshape(n, k // 2)


def unpack_digits(packed: Tensor) -> Tensor:
    """The inverse of `pack_digits`, as int8."""
    n, k = packed.shape[0], 2 * packed.shape[1]
    flat = packed.contiguous().view(torch.uint8).flatten()
    digits = torch.stack([flat & 15, flat >> 4], 1).to(torch.int8)
    tiles = digits.reshape(n // TILE, k // GROUP, 8, 8, 4, 2, 2, 8).permute(0, 2, 5, 3, 1, 6, 4, 7)
    values = tiles.reshape(n, k)
    return torch.where(values > 7, values - 16, values)


def pack_scales(scales: Tensor) -> Tensor:
    """Numbers (N, G) for every output as (G, N); N is a multiple of 128."""
    n, groups = scales.shape
    return scales.reshape(n // TILE, 8, 2, 4, 2, groups).permute(0, 5, 1, 3, 2, 4).reshape(groups, n)


def unpack_scales(packed: Tensor) -> Tensor:
    """The inverse of `pack_scales`."""
    groups, n = packed.shape
    return packed.reshape(n // TILE, groups, 8, 4, 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(n, groups)


def _swapped(tiles: Tensor) -> Tensor:
    """Tiles (a, b, 16, 16) in the order of threads, one row each: (a, b, 256)."""
    return tiles.unflatten(3, (2, 4, 2)).unflatten(2, (2, 8)).permute(0, 1, 3, 5, 2, 4, 6).flatten(2)


def _straight(rows: Tensor) -> Tensor:
    """The inverse of `_swapped`."""
    return rows.unflatten(2, (8, 4, 2, 2, 2)).permute(0, 1, 4, 2, 5, 3, 6).reshape(*rows.shape[:2], PATCH, PATCH)


def pack_low_rank(matrix: Tensor, down: bool) -> Tensor:
    """down (R, K) as (K, R), or up (N, R) as (N, R); the sides are multiples of 16."""
    rows, columns = (side // PATCH for side in matrix.shape)
    tiles = matrix.reshape(rows, PATCH, columns, PATCH).permute(*((2, 0) if down else (0, 2)), 1, 3)
    return _swapped(tiles).reshape(matrix.shape[::-1] if down else matrix.shape)


def unpack_low_rank(packed: Tensor, down: bool) -> Tensor:
    """The inverse of `pack_low_rank`."""
    tiles = _straight(packed.reshape(*(side // PATCH for side in packed.shape), PATCH * PATCH))
    if down:
        return tiles.permute(1, 2, 0, 3).reshape(packed.shape[::-1])
    return tiles.permute(0, 2, 1, 3).reshape(packed.shape)


def weight_of(digits: Tensor, scales: Tensor, smooth: Tensor, down: Tensor, up: Tensor) -> Tensor:
    """The weight (N, K), float32, of packed parts, in float32 as well where they are scales."""
    values = unpack_digits(digits).float().unflatten(1, (-1, GROUP)) * unpack_scales(scales.float())[..., None]
    factors = unpack_scales(smooth.float().reshape(1, -1)).flatten()
    return values.flatten(1) / factors + unpack_low_rank(up.float(), False) @ unpack_low_rank(down.float(), True)


def values(file: WeightFile, tensors: dict[str, Stored], metadata: Mapping[str, str]) -> dict[str, Stored]:
    """The tensors of a file with those of SVDQuant unpacked when they are read, and without what only serves that.

    Raises SfumatoError for a weight that lacks a part or has one of another size, and for NVFP4.
    """
    names = [match[1] for name in tensors if (match := re.fullmatch(r"(.+)\.qweight", name))]
    layers = [name for name in names if f"{name}.wscales" in tensors]
    result, shapes = dict(tensors), _shapes(file, metadata) if layers else {}
    for layer in layers:
        if other := next((one for one in OTHERS if f"{layer}.{one}" in tensors), None):
            raise file.error(f"is quantised as NVFP4 or AWQ (it holds {quote(layer)}.{other}); give the int4 file")
        result = _with_layer(file, result, layer, shapes)
    return result


def _shapes(file: WeightFile, metadata: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    try:
        stated = json.loads(metadata.get(CONFIG, "{}")).get("shapes", {})
        shapes = {name: tuple(shape) for name, shape in stated.items()}
        if not all(type(side) is int and side > 0 for shape in shapes.values() for side in shape):
            raise ValueError("sides are whole numbers above 0")
    except (ValueError, TypeError, AttributeError) as error:
        raise file.error(f"describes its quantisation wrongly in its {CONFIG}; download it again") from error
    return shapes


def _with_layer(
    file: WeightFile, tensors: dict[str, Stored], layer: str, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Stored]:
    digits, scales = tensors.pop(f"{layer}.qweight"), tensors.pop(f"{layer}.wscales")
    parts = {}
    for part, names in NAMES.items():
        name = next((f"{layer}.{one}" for one in names if f"{layer}.{one}" in tensors), None)
        if name is None:
            raise file.error(f"lacks {quote(f'{layer}.{names[0]}')}, which its qweight needs; download it again")
        parts[part] = tensors.pop(name)
    for name in UNUSED:
        tensors.pop(f"{layer}.{name}", None)
    bias = tensors.pop(f"{layer}.bias", None)
    n, k = _checked_sizes(file, layer, digits, scales, parts, bias)
    shape = shapes.get(layer, (n, k))
    if not len(shape) >= 2 or shape[0] > n or math.prod(shape[1:]) > k:
        raise file.error(f"states the shape {shape} for {quote(layer)}, which holds {n} x {k} numbers; it is broken")

    def weight(raw: Tensor) -> Tensor:
        packed = raw.view(torch.int8).reshape(n, k // 2)
        whole = weight_of(packed, scales.read(), *(parts[part].read() for part in ("smooth", "down", "up")))
        return whole[: shape[0], : math.prod(shape[1:])].contiguous()  # products of matrices with gaps are slow

    def offset(raw: Tensor) -> Tensor:
        assert bias is not None
        return unpack_scales(raw.view(bias.dtype).float().reshape(1, -1))[: shape[0], 0]

    fused = FUSED.get(layer.rpartition(".")[2])
    places = [layer] if fused is None else [layer.removesuffix("to_qkv") + name for name in fused]
    for place, name in enumerate(places):
        tensors[f"{name}.weight"] = _packed(digits, weight, shape, place, len(places))
        if bias is not None:
            tensors[f"{name}.bias"] = _packed(bias, offset, shape[:1], place, len(places))
    return tensors


def _packed(stored: Stored, unpack: Any, shape: tuple[int, ...], place: int, count: int) -> Packed:
    """The part number `place` of `count` equal ones, which are stored together."""
    return Packed(
        stored.file, stored.start, (shape[0] // count, *shape[1:]), torch.float32, packed=stored.nbytes,
        format="SVDQuant of 4 bits", unpack=lambda raw: unpack(raw).chunk(count)[place],
    )  # fmt: skip


def _checked_sizes(
    file: WeightFile, layer: str, digits: Stored, scales: Stored, parts: Mapping[str, Stored], bias: Stored | None
) -> tuple[int, int]:
    n, k = (*digits.shape, 0)[:2]
    k, rank = 2 * k, parts["down"].shape[-1:]
    expected = {
        "wscales": (scales.shape, (k // GROUP, n)), "smooth": (parts["smooth"].shape, (k,)),
        "lora_down": (parts["down"].shape, (k, *rank)), "lora_up": (parts["up"].shape, (n, *rank)),
        "bias": (bias.shape if bias else (n,), (n,)),
    }  # fmt: skip
    wrong = [name for name, (found, wanted) in expected.items() if found != wanted]
    if wrong or digits.dtype.itemsize != 1 or not n or n % TILE or not k or k % TILE or rank[0] % PATCH:
        what = wrong[0] if wrong else "qweight"
        raise file.error(f"holds {quote(f'{layer}.{what}')} of another size than SVDQuant has; download it again")
    return n, k
