"""Weights of fewer bits: what a quantiser writes for each large weight of the network that draws.

float8 and int8 keep a scale beside a weight. SVDQuant (Li et al. 2024, section 4) keeps 4 bits: a low-rank part takes
up what is large in the smoothed weight, and what remains is rounded in groups of 64. Its weights are rounded here
without pictures to calibrate on, so smoothing goes by the weights alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from sfumato.checkpoint.formats import svdquant
from sfumato.checkpoint.formats.svdquant import CONFIG, GROUP, TILE
from sfumato.loading.save import Entry

LARGE = 4096  # numbers from which a weight is quantised
RANK = 32  # of the low-rank part, as in the paper
LEVELS = 7  # of 4 bits, to either side of 0
SMOOTHING = (0.0, 0.25, 0.5)  # exponents that are tried
ROUNDS, POWERS = 4, 3  # of fitting the low-rank part anew; of the iteration that finds it

Named = dict[str, Entry]


@dataclass(frozen=True)
class Quantiser:
    """A kind of storage: `fits(shape)` says which weights it takes, `entries(name, entry)` what it writes for one."""

    fits: Callable[[tuple[int, ...]], bool]
    entries: Callable[[str, Entry], Named]


def quantised(entries: Named, kind: str, prefix: str) -> tuple[Named, dict[str, str]]:
    """The entries of a model with the large weights whose names begin with `prefix` stored as `kind`, and metadata."""
    quantiser, result, shapes = KINDS[kind], Named(), {}
    for name, entry in entries.items():
        large = entry.dtype.is_floating_point and torch.Size(entry.shape).numel() >= LARGE
        if large and name.startswith(prefix) and name.endswith(".weight") and quantiser.fits(entry.shape):
            result |= quantiser.entries(name, entry)
            shapes[name.rpartition("/")[2].removesuffix(".weight")] = list(entry.shape)
        else:
            result[name] = entry
    if kind != "svdq-int4":
        return result, {}
    for layer in shapes:  # biases lie in the same order as the outputs of a weight
        bias = next((one for one in entries if one.rpartition("/")[2] == f"{layer}.bias"), None)
        if bias is not None:
            result[bias] = _packed_bias(entries[bias])
    weights = {"dtype": "int4", "group_size": GROUP}
    told = {"method": "svdquant", "weight": weights, "rank": RANK, "shapes": shapes}
    return result, {CONFIG: json.dumps(told)}


def _scaled(dtype: torch.dtype, largest: float, by_row: bool) -> Callable[[str, Entry], Named]:
    def entries(name: str, entry: Entry) -> Named:
        def scale() -> Tensor:
            values = entry.make().float().abs()
            return (values.flatten(1).amax(1) if by_row else values.max()).clamp(min=1e-12) / largest

        def weight() -> Tensor:
            factors = scale().view(-1, *(1 for _ in entry.shape[1:])) if by_row else scale()
            values = entry.make().float() / factors
            return (values if dtype.is_floating_point else values.round()).to(dtype)

        shape = entry.shape[:1] if by_row else ()
        key = f"{name.removesuffix('.weight')}.weight_scale"
        return {name: Entry(entry.shape, dtype, weight), key: Entry(shape, torch.float32, scale)}

    return entries


def _matrix(shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 or (len(shape) == 4 and shape[2:] == (1, 1))


def _svdquant(name: str, entry: Entry) -> Named:
    n, k = (-(-side // TILE) * TILE for side in entry.shape[:2])
    parts = cache(lambda: svdquant_parts(entry.make().float().flatten(1)))  # lives as long as the entries do
    half, layer = torch.float16, name.removesuffix(".weight")
    shapes = {
        "qweight": ((n, k // 2), torch.int8), "wscales": ((k // GROUP, n), half), "smooth": ((k,), half),
        "lora_down": ((k, RANK), half), "lora_up": ((n, RANK), half),
    }  # fmt: skip
    return {
        f"{layer}.{part}": Entry(shape, dtype, lambda part=part: parts()[part])  # type: ignore[misc]
        for part, (shape, dtype) in shapes.items()
    }


def _packed_bias(entry: Entry) -> Entry:
    n = -(-entry.shape[0] // TILE) * TILE

    def make() -> Tensor:
        return svdquant.pack_scales(F.pad(entry.make(), (0, n - entry.shape[0]))[:, None]).flatten()

    return Entry((n,), entry.dtype, make)


def svdquant_parts(weight: Tensor) -> dict[str, Tensor]:
    """The parts of a weight (N, K), float32, as `formats.svdquant` reads them, padded to whole tiles.

    Of several strengths of smoothing the one is taken that loses least of the weight.
    """
    n, k = weight.shape
    whole = F.pad(weight, (0, -k % TILE, 0, -n % TILE))
    tried = [_decomposed(whole, exponent) for exponent in SMOOTHING]
    digits, scales, smooth, down, up = min(tried, key=lambda one: _loss(whole, *one))
    return {
        "qweight": svdquant.pack_digits(digits), "wscales": svdquant.pack_scales(scales),
        "smooth": svdquant.pack_scales(smooth[:, None]).flatten(), "lora_down": svdquant.pack_low_rank(down, True),
        "lora_up": svdquant.pack_low_rank(up, False),
    }  # fmt: skip


Parts = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def _decomposed(weight: Tensor, exponent: float) -> Parts:
    """Digits, scales, smoothing, down (R, K) and up (N, R) in float16, for inputs smoothed by the weights' sizes."""
    largest = weight.abs().amax(0).clamp(min=1e-6)
    smooth = ((largest / largest.mean()).clamp(min=1e-3) ** -exponent).half()
    smoothed, rounded, best = weight * smooth.float(), torch.zeros_like(weight), None
    for _ in range(ROUNDS):
        up, down = _low_rank(smoothed - rounded)
        # What float16 makes of the low-rank part is left to the digits.
        held = up.half(), (down / smooth.float()).half()
        remainder = (smoothed - held[0].float() @ (held[1].float() * smooth.float())).unflatten(1, (-1, GROUP))
        scales = (remainder.abs().amax(2) / LEVELS).clamp(min=1e-7).half()
        digits = (remainder / scales.float()[..., None]).round().clamp(-LEVELS - 1, LEVELS)
        rounded = (digits * scales.float()[..., None]).flatten(1)
        parts = digits.flatten(1).to(torch.int8), scales, smooth, held[1], held[0]
        if best is None or _loss(weight, *parts) < _loss(weight, *best):
            best = parts
    assert best is not None
    return best


def _low_rank(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Factors (N, R) and (R, K) of the nearest matrix of rank `RANK`, by iterating a subspace (Halko et al. 2011)."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(matrix.shape[1], 2 * RANK, generator=generator)
    for _ in range(POWERS):
        basis = torch.linalg.qr(matrix.T @ torch.linalg.qr(matrix @ basis)[0])[0]
    u, s, v = torch.linalg.svd(matrix @ basis, full_matrices=False)
    root = s[:RANK].sqrt()
    return u[:, :RANK] * root, (v[:RANK] @ basis.T) * root[:, None]


def _loss(weight: Tensor, digits: Tensor, scales: Tensor, smooth: Tensor, down: Tensor, up: Tensor) -> float:
    rounded = (digits.float().unflatten(1, (-1, GROUP)) * scales.float()[..., None]).flatten(1) / smooth.float()
    return (weight - rounded - up.float() @ down.float()).norm().item()


KINDS = {
    "fp8": Quantiser(lambda shape: len(shape) in (2, 4), _scaled(torch.float8_e4m3fn, 448.0, by_row=False)),
    "int8": Quantiser(lambda shape: len(shape) in (2, 4), _scaled(torch.int8, 127.0, by_row=True)),
    "svdq-int4": Quantiser(_matrix, _svdquant),
}
