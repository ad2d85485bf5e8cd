"""The tensors of which a difference consists in files, under the names of all trainers, brought to one name each."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from sfumato.adapters.deltas import (
    Butterfly,
    Decomposed,
    Delta,
    Full,
    Generalised,
    Hadamard,
    Kronecker,
    LowRank,
    Rotated,
    Scaled,
    Sparse,
    Sum,
    TurnedInputs,
    block_side,
    skew_of,
)
from sfumato.checkpoint.keymap import Shapes
from sfumato.errors import SfumatoError

# What names of tensors end in, and what the component is called here.
ENDINGS = {
    "lora_up.weight": "up",
    "lora_down.weight": "down",
    "lora_mid.weight": "mid",
    "lora_up.bias": "up_bias",
    "lora.up.weight": "up",
    "lora.down.weight": "down",
    "lora.up.bias": "up_bias",
    "lora_linear_layer.up.weight": "up",
    "lora_linear_layer.down.weight": "down",
    "lora_B.weight": "up",
    "lora_A.weight": "down",
    "lora_B.bias": "up_bias",
    "lora_B.default.weight": "up",
    "lora_A.default.weight": "down",
    "lora_B.default.bias": "up_bias",
    "lora_B": "up",
    "lora_A": "down",
    "dora_scale": "magnitude",
    "lora_magnitude_vector": "rows",
    "lora_magnitude_vector.weight": "rows",
    "lora_magnitude_vector.default.weight": "rows",
    "alpha": "alpha",
    "scalar": "scalar",
    **{f"hada_{name}": f"hada_{name}" for name in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")},
    **{f"lokr_{name}": f"lokr_{name}" for name in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")},
    **{f"{name}.weight": f"glora_{name}" for name in ("a1", "a2", "b1", "b2")},
    "oft_blocks": "oft_blocks",
    "rescale": "rescale",
    "diff": "diff",
    "diff_b": "diff_b",
    "w_norm": "diff",
    "b_norm": "diff_b",
    "on_input": "on_input",
    "oft_R.weight": "oft_vectors",
    "oft_R.default.weight": "oft_vectors",
    **{
        f"boft_{end}{name}": component
        for name in ("", ".default")
        for end, component in (("R", "boft_stages"), ("s", "boft_scale"))
    },
    "ia3_l": "ia3",
    "ia3_l.default": "ia3",
    "bias_indices": "sparse_indices",
    "bias_values": "sparse_values",
    "bias_size": "sparse_size",
}
LONGEST = 3  # parts of an ending, between dots
# The oldest names of diffusers: the processor of an attention held what belongs to its layers.
OLD = {f"to_{one}_lora": f"to_{one}" for one in "qkv"} | {"to_out_lora": "to_out.0"}
MARKS = {
    "up", "down", "hada_w1_a", "lokr_w1", "lokr_w1_a", "glora_a1", "oft_blocks", "oft_vectors", "boft_stages", "diff",
    "diff_b", "on_input", "ia3",
}  # fmt: skip


def split(name: str) -> tuple[str, str] | None:
    """The layer and the component that a tensor's name says; None for what is no part of a difference."""
    parts = name.split(".")
    if len(parts) > 3 and parts[-3] in OLD and parts[-2] in ("up", "down"):
        layer = [part for part in parts[:-3] if part != "processor"]
        return ".".join((*layer, OLD[parts[-3]])), parts[-2]
    for length in range(min(LONGEST, len(parts) - 1), 0, -1):
        component = ENDINGS.get(".".join(parts[-length:]))
        if component is not None:
            return ".".join(parts[:-length]), component
    return None


def holds_differences(shapes: Shapes) -> bool:
    """Whether some tensor can only be part of a difference."""
    return any((found := split(name)) is not None and found[1] in MARKS for name in shapes)


def by_layer(names: Mapping[str, object]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """The tensors' names by layer and component, and the names that are part of no difference.

    IA3 calls its vector plainly `weight`, which it is only beside `on_input`.
    """
    layers: dict[str, dict[str, str]] = defaultdict(dict)
    others = []
    for name in names:
        found = split(name)
        if found is not None:
            layers[found[0]][found[1]] = name
        elif name.endswith(".weight") and f"{name.removesuffix('weight')}on_input" in names:
            layers[name.removesuffix(".weight")]["factor"] = name
        else:
            others.append(name)
    return dict(layers), others


def fits(parts: Mapping[str, tuple[int, ...]], shape: tuple[int, ...]) -> bool:
    """Whether components of these shapes make the difference of a weight of this shape."""
    rows, columns = shape[0] if shape else 1, math.prod(shape[1:])

    def factors(a: str, b: str, core: str) -> tuple[int, int]:
        """Rows and columns of a product; with a core both factors lie on their side."""
        if core in parts:
            return parts[a][-1], parts[b][1] * math.prod(parts[core][2:])
        return parts[a][0], math.prod(parts[b][1:])

    if {"up", "down"} <= parts.keys():
        kernel = math.prod(parts["mid"][2:]) if "mid" in parts else 1
        return (parts["up"][0], math.prod(parts["down"][1:]) * kernel) == (rows, columns)
    if {"hada_w1_a", "hada_w1_b"} <= parts.keys():
        return factors("hada_w1_a", "hada_w1_b", "hada_t1") == (rows, columns)
    if "lokr_w1" in parts or "lokr_w1_a" in parts:
        first = parts["lokr_w1"] if "lokr_w1" in parts else factors("lokr_w1_a", "lokr_w1_b", "")
        whole = "lokr_w2" in parts
        second = parts["lokr_w2"] if whole else factors("lokr_w2_a", "lokr_w2_b", "lokr_t2")
        return (first[0] * second[0], first[1] * math.prod(second[1:])) == (rows, columns)
    if {"glora_b1", "glora_b2"} <= parts.keys():
        sides = {parts["glora_b1"][0], math.prod(parts["glora_b2"][1:]), parts["glora_b2"][0]}
        return {rows, columns} <= sides | {math.prod(parts["glora_b1"][1:])}
    if "oft_blocks" in parts:
        return math.prod(parts["oft_blocks"][-3:-1]) == rows
    if "oft_vectors" in parts:
        blocks, side = parts["oft_vectors"][0], block_side(parts["oft_vectors"][-1])
        return blocks * side == columns or (blocks == 1 and columns % side == 0)
    if "boft_stages" in parts:  # of peft, which mixes several on CUDA alone
        stages, blocks, side, _ = parts["boft_stages"]
        return stages == 1 and blocks * side == columns
    if "factor" in parts:
        return math.prod(parts["factor"]) in shape[:2]
    if "ia3" in parts:
        return math.prod(parts["ia3"]) == (columns if _scales_columns(parts["ia3"]) else rows)
    kept = parts.get("diff", parts.get("diff_b"))
    return kept is not None and math.prod(kept) in (rows * columns, rows)


def differences(
    layer: str, parts: Mapping[str, str], read: Callable[[str], Tensor], alpha: float | None = None,
    terms: int | None = None,
) -> dict[str, Delta]:  # fmt: skip
    """The differences of a layer's "weight" and "bias", of the components `parts` that `read` gives.

    `alpha` is what the file says elsewhere of a layer without one, `terms` what it says of peft's OFT (see
    `TurnedInputs`). Raises SfumatoError for components that do not belong together.
    """
    held = {component: read(name) for component, name in parts.items()}
    if "oft_vectors" in held:
        return {"weight": TurnedInputs(skew_of(held["oft_vectors"].float()), terms)}
    if "boft_stages" in held:
        blocks = held["boft_stages"][0].float()
        skew = (blocks - blocks.transpose(1, 2)) / 2
        return {"weight": TurnedInputs(skew, rescale=held.get("boft_scale"))}
    if alpha is not None:
        held.setdefault("alpha", torch.tensor(alpha))
    result: dict[str, Delta] = {}
    weight = _weight(held)
    if weight is not None and "sparse_values" in held:
        size = tuple(map(int, held["sparse_size"].tolist()))
        weight = Sum((weight, Sparse(held["sparse_indices"], held["sparse_values"], size)))
    if weight is not None and "rows" in held:
        weight = Decomposed(weight, held["rows"].flatten())
    elif weight is not None and "magnitude" in held:
        weight = Decomposed(weight, held["magnitude"])
    if weight is not None:
        result["weight"] = weight
    if "diff_b" in held:
        result["bias"] = Full(held["diff_b"])
    elif "ia3" in held and not _scales_columns(held["ia3"].shape):
        result["bias"] = _ia3(held["ia3"])
    elif "up_bias" in held:
        result["bias"] = Full(held["up_bias"].float() * _scale(held, len(held["down"])))
    if not result:
        raise SfumatoError(f"the layer {layer} has {', '.join(sorted(held))}, of which no difference can be made")
    return result


def _weight(held: Mapping[str, Tensor]) -> Delta | None:
    names = held.keys()
    if {"up", "down"} <= names:
        return LowRank(held["up"], held["down"], held.get("mid"), _scale(held, len(held["down"])))
    if {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"} <= names:
        a1, b1, a2, b2 = (held[f"hada_{name}"] for name in ("w1_a", "w1_b", "w2_a", "w2_b"))
        return Hadamard(a1, b1, a2, b2, held.get("hada_t1"), held.get("hada_t2"), _scale(held, len(b1)))
    if any(name.startswith("lokr_") for name in names):
        return _kronecker(held)
    if {"glora_a1", "glora_a2", "glora_b1", "glora_b2"} <= names:
        return _generalised(held)
    if "oft_blocks" in names:
        kind = Butterfly if held["oft_blocks"].dim() == 4 else Rotated
        return kind(held["oft_blocks"], held.get("rescale"), _number(held, "alpha") or 0.0)
    if "factor" in names:
        return Scaled(held["factor"], bool(held["on_input"].item()))
    if "ia3" in names:
        return _ia3(held["ia3"])
    if "diff" in names:
        return Full(held["diff"])
    return None


def _ia3(factor: Tensor) -> Scaled:
    """IA3 as peft has it: what rows (out, 1), or columns (1, in), are multiplied by. Biases go with the rows."""
    return Scaled(factor.float().flatten() - 1, _scales_columns(factor.shape))


def _scales_columns(shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 and shape[0] == 1


def _kronecker(held: Mapping[str, Tensor]) -> Delta | None:
    def side(name: str) -> Tensor | tuple[Tensor, Tensor] | None:
        if f"lokr_{name}" in held:
            return held[f"lokr_{name}"]
        factors = [held.get(f"lokr_{name}_{end}") for end in "ab"]
        return None if factors[0] is None or factors[1] is None else (factors[0], factors[1])

    w1, w2 = side("w1"), side("w2")
    if w1 is None or w2 is None:
        return None
    factored = next((one for one in (w2, w1) if isinstance(one, tuple)), None)  # without one, alpha means nothing
    scale = 1.0 if factored is None else _scale(held, len(factored[1]))
    return Kronecker(w1, w2, held.get("lokr_t2"), scale)


def _generalised(held: Mapping[str, Tensor]) -> Delta:
    """Older files have the factors of each product the other way round: rank first where now it is last."""
    a1, a2, b1, b2 = (held[f"glora_{name}"] for name in ("a1", "a2", "b1", "b2"))
    older = len(a1) == a2.shape[1] == len(b1) == b2.shape[1] and not a1.shape[1] == len(a2) == b1.shape[1] == len(b2)
    if older:
        a1, a2, b1, b2 = a2, a1, b2, b1
    return Generalised(a1, a2, b1, b2, _scale(held, len(a2)))


def _scale(held: Mapping[str, Tensor], rank: int) -> float:
    """alpha / rank; 1 where the file has no alpha, or one that is no number."""
    alpha, scalar = _number(held, "alpha"), _number(held, "scalar")
    return (1.0 if alpha is None else alpha / rank) * (1.0 if scalar is None else scalar)


def _number(held: Mapping[str, Tensor], name: str) -> float | None:
    value = float(held[name].float().flatten()[0]) if name in held and held[name].numel() else math.nan
    return value if math.isfinite(value) else None
