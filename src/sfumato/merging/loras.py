"""LoRAs made of what exists: of the difference of two models, of other LoRAs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato.adapters import lora
from sfumato.adapters.deltas import Full, LowRank
from sfumato.adapters.layer_names import Layer
from sfumato.adapters.made_for import made_for
from sfumato.adapters.use import Use
from sfumato.errors import OptionError, SfumatoError, unknown
from sfumato.hub.local_models import locate
from sfumato.loading.conversion.writing import Progress
from sfumato.loading.convert import DTYPES
from sfumato.loading.resolve import Overrides, opened_model
from sfumato.merging.bake import record, used_lora
from sfumato.merging.inputs import Input, opened_inputs
from sfumato.merging.lora_file import LoraFile, Target, Targets, check_out
from sfumato.merging.low_rank import USUAL_RANK, Limit, factors_of, fewer
from sfumato.merging.recipe import RECIPE
from sfumato.spec import Spec

Products = tuple[tuple[int, ...], list[tuple[Tensor, Tensor]]]  # a layer's shape, and factors (up, down)


@dataclass(frozen=True)
class MadeLora:
    """A LoRA that was written; `kept` is the share of the change (its sum of squares) that is in it, 0 to 1.

    `ranks` are the least and the largest. `left_out` counts changed tensors that no LoRA has: norms, biases and the
    vectors of words.
    """

    out: Path
    family: str
    layers: int
    ranks: tuple[int, int]
    kept: float
    left_out: int = 0


def extract_lora(
    tuned: str | Path,
    base: str | Path,
    out: str | Path,
    *,
    rank: int | None = None,
    energy: float | None = None,
    parts: Sequence[str] | None = None,
    dtype: str | torch.dtype = "float16",
    overwrite: bool = False,
    progress: Progress = lambda done, total, what: None,
) -> MadeLora:
    """Write what training made of `base` to get `tuned` as a LoRA in kohya's names.

    Each layer's difference is cut to its nearest matrix of `rank` (64), or of the smallest rank that holds the share
    `energy` of its squares, or both. `parts` are those of the model to look at (None: the network that draws and all
    text encoders). Paths or names; both models may lie in any layout. `progress(tensors done, in all, what)` may raise
    to stop. Raises SfumatoError for models that do not fit together, and when `out` is there and not `overwrite`.
    """
    out, limit = Path(out), Limit(rank, energy) or Limit(USUAL_RANK)
    check_out(out, overwrite)
    with opened_inputs([base, tuned], parts=parts) as (before, after):
        targets = Targets(before.source.spec)
        wanted = set(targets.parts if parts is None else parts)
        made = LoraFile(before.source.spec, _dtype(dtype))
        kept = energies = 0.0
        chosen = [one for one in targets.all if one.part in wanted]
        for number, target in enumerate(chosen):
            progress(number, len(chosen), target.name)
            difference = _difference(before, after, target)
            found = factors_of(difference.flatten(1), limit)
            if found is not None:
                made.add(target.name, *_shaped(found.up, found.down, difference.shape))
                kept, energies = kept + found.kept, energies + found.energy
        left_out = _others(before, after, chosen, wanted)
        recipe = {"type": "sfumato", "method": "extract", "rank": limit.rank, "energy": limit.energy}
        models = [{"name": one.name, "sha256": one.sha256} for one in (after, before)]
        made.write(out, {RECIPE: json.dumps(recipe | {"models": models})})
    return _made(out, made, kept / energies if energies else 1.0, left_out)


def _difference(before: Input, after: Input, target: Target) -> Tensor:
    keys = [(target.part, name) for name in target.rule.ours]
    changes = []
    for key in keys:
        changes.append(after.read(key).float() - before.read(key).float())
        for one in (before, after):
            one.release(key)
    return target.rule.transform.to_theirs(changes)[0]


def _others(before: Input, after: Input, targets: Sequence[Target], parts: set[str]) -> int:
    """How many further parameters the models differ in."""
    seen = {(target.part, name) for target in targets for name in target.rule.ours}
    keys = [key for key in before.shapes() if key[0] in parts and key not in seen and key in after.source.params]
    return sum(not torch.equal(before.read(key).float(), after.read(key).float()) for key in keys)


def merge_loras(
    loras: Sequence[str | Path],
    out: str | Path,
    *,
    rank: int | None = None,
    energy: float | None = None,
    model: str | Path | None = None,
    dtype: str | torch.dtype = "float16",
    overwrite: bool = False,
    progress: Progress = lambda done, total, what: None,
) -> MadeLora:
    """Write one LoRA that does what several do together, in kohya's names, whatever theirs are.

    `loras` are paths or names, which may have weights as in prompts: "style:0.8", "style:TEXT:NETWORK". Without a limit
    the result is exact: its rank is the sum of theirs. `rank` and `energy` cut each layer as in `extract_lora`; with
    one LoRA this is resizing. `model` is one that they fit, where their family is none of the releases. Raises
    SfumatoError for files that are no LoRAs of one family, and for kinds of difference that are no product of two
    matrices (DoRA, LoHa ...).
    """
    out, limit = Path(out), Limit(rank, energy)
    check_out(out, overwrite)
    uses = [used_lora(one) for one in loras]
    if not uses:
        raise SfumatoError("no LoRA is given; give one or more")
    spec = _common_family(uses) if model is None else _family_of(model)
    targets, made = Targets(spec), LoraFile(spec, _dtype(dtype))
    products, shifts = _changes(uses, targets)
    kept = energies = 0.0
    for number, (name, (shape, several)) in enumerate(products.items()):
        progress(number, len(products), name)
        up, down = torch.cat([one for one, _ in several], 1), torch.cat([one for _, one in several])
        if limit:
            cut = fewer(up, down, limit)
            if cut is None:
                continue
            up, down, kept, energies = cut.up, cut.down, kept + cut.kept, energies + cut.energy
        made.add(name, *_shaped(up, down, shape))
    made.tensors |= {name: value.to(made.dtype) for name, value in shifts.items()}
    recipe = {"type": "sfumato", "method": "merge", "rank": rank, "energy": energy}
    made.write(out, {RECIPE: json.dumps(recipe | {"loras": [record(use) for use in uses]})})
    return _made(out, made, kept / energies if energies else 1.0)


def _changes(uses: Sequence[Use], targets: Targets) -> tuple[dict[str, Products], dict[str, Tensor]]:
    """What LoRAs change together, by kohya's names: products of each layer, and what is added whole.

    Raises SfumatoError for layers that the model does not have, and for other kinds of difference.
    """
    products: dict[str, Products] = {}
    shifts: dict[str, Tensor] = {}
    for use in uses:
        found = lora.read(use.file, targets.spec)
        found.check(targets.spec)
        for change in found.changes:
            layer, delta, weight = change.layer, change.delta, use.strength(change.layer)
            if isinstance(delta, LowRank):
                name = targets.name(layer.part, layer.rule.ours)
                products.setdefault(name, (layer.shape, []))[1].append(_product(delta, weight))
            elif isinstance(delta, Full):
                name = _shift_name(targets, layer)
                shifts[name] = shifts.get(name, torch.zeros(())) + delta.values.float() * weight
            else:
                kind = type(delta).__name__
                raise SfumatoError(
                    f"{use.file.path} has differences that are no plain LoRA ({kind}, of {layer.name}); bake it into a "
                    "model with `sfumato merge MODEL --lora`, and extract a LoRA of that"
                )
    return products, shifts


def resize_lora(source: str | Path, out: str | Path, **options: Any) -> MadeLora:
    """Write a LoRA with another rank; the options are those of `merge_loras`."""
    return merge_loras([source], out, **options)


def _product(delta: LowRank, weight: float) -> tuple[Tensor, Tensor]:
    """up (out, r) and down (r, in) of a difference, with its weight; a core in the middle goes into `down`."""
    up, down = delta.up.float().flatten(1), delta.down.float()
    if delta.mid is not None:
        down = torch.einsum("rs...,si->ri...", delta.mid.float(), down.flatten(1))
    return up * (delta.scale * weight), down.flatten(1)


def _shaped(up: Tensor, down: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The factors as the layers that they are: of a convolution (out, in, kernel) one of that kernel, then a 1x1."""
    return up.reshape(*up.shape, *[1] * (len(shape) - 2)), down.reshape(len(down), *shape[1:])


def _common_family(uses: Sequence[Use]) -> Spec:
    """The release that all of them were made for. Raises SfumatoError where there is none."""
    specs = []
    for use in uses:
        with use.file.checkpoint() as checkpoint:
            spec = made_for(checkpoint.shapes, checkpoint.metadata)
        if spec is None:
            raise OptionError(
                f"{use.file.path} was made for no model that is known here; name a model that it fits with `model`"
            )
        specs.append(spec)
    for use, spec in zip(uses, specs, strict=True):
        if spec != specs[0]:
            first = f"{uses[0].file.path} for {specs[0].title}"
            raise SfumatoError(f"{use.file.path} was made for {spec.title}, {first}; give LoRAs of one family")
    return specs[0]


def _family_of(model: str | Path) -> Spec:
    path, variant = locate(model)
    with opened_model(path, overrides=Overrides(variant)) as resolved:
        return resolved.spec


def _shift_name(targets: Targets, layer: Layer) -> str:
    """What a difference that is kept whole is called: of a bias `diff_b`, of a weight `diff`."""
    module, _, leaf = layer.rule.ours[0].rpartition(".")
    known = targets.name(layer.part, (f"{module}.weight", *layer.rule.ours[1:]))
    return f"{known}.{'diff_b' if leaf == 'bias' else 'diff'}"


def _dtype(dtype: str | torch.dtype) -> torch.dtype:
    known = {name: one for name, one in DTYPES.items() if one is not None}
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in known:
        raise unknown("dtype", dtype, known)
    return known[dtype]


def _made(out: Path, made: LoraFile, kept: float, left_out: int = 0) -> MadeLora:
    ranks = min(made.ranks, default=0), max(made.ranks, default=0)
    return MadeLora(out, made.spec.family, len(made.ranks), ranks, kept, left_out)
