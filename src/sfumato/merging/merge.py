"""Several models to one file, tensor by tensor: at no time is a whole model in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato.checkpoint.checkpoint import Stored
from sfumato.checkpoint.formats.fp8 import EIGHTS
from sfumato.checkpoint.keymap import Rule
from sfumato.checkpoint.open import open_checkpoint
from sfumato.errors import OptionError, unknown
from sfumato.loading.conversion.account import Account, Source, cast
from sfumato.loading.conversion.proof import check_read_back
from sfumato.loading.conversion.writing import (
    Progress,
    check_places,
    check_space,
    draft_beside,
    folder_files_of,
    put,
    steps_of,
    write,
)
from sfumato.loading.convert import DTYPES
from sfumato.loading.save import MAX_FILE, to_json
from sfumato.merging.bake import Baked, used_lora
from sfumato.merging.blocks import Blocks, BlockWeights, Said
from sfumato.merging.formulas import ALONE, METHODS, How, Method, Store, combine
from sfumato.merging.inputs import Input, Parameter, opened_inputs
from sfumato.merging.recipe import RECIPE_FILE, metadata_of, recipe_of


@dataclass(frozen=True)
class Merged:
    """What was written: where, of which family, and the recipe as the file has it."""

    out: Path
    family: str
    tensors: int
    recipe: Mapping[str, Any]


@dataclass(frozen=True)
class _Computed(Stored):
    """A tensor that is computed whenever it is read."""

    make: Callable[[], Tensor] = field(kw_only=True, repr=False)

    def read(self) -> Tensor:
        return self.make()

    def release(self) -> None:
        pass  # it lies in no file


def merge(
    models: Sequence[str | Path],
    out: str | Path,
    *,
    method: str = "sum",
    weights: float | Sequence[float] | None = None,
    blocks: Said | None = None,
    density: float | None = None,
    seed: int = 0,
    parts: Sequence[str] | None = None,
    dtype: str | torch.dtype | None = None,
    ema: bool = False,
    vae: str | Path | None = None,
    text_encoders: Sequence[str | Path] = (),
    loras: Sequence[str | Path] = (),
    lora_partial: bool = False,
    overwrite: bool = False,
    progress: Progress = lambda done, total, what: None,
) -> Merged:
    """Write one model made of several, as a .safetensors in the original layout or as a diffusers folder.

    `models` are paths or names; the first is A, which also gives all that is not merged. `method` is one of `METHODS`;
    its `weights` are one number, or for methods with a weight for each model as many. `blocks` are weights of single
    blocks, see `BlockWeights.of`: they replace the weight of sum, difference and slerp, and multiply those of ties and
    dare. `density` is the share of each difference that ties and dare keep, `seed` chooses dare's. `parts` names the
    networks that are merged (None: all). `dtype` ("float16", ...) None keeps A's types; the formulas are computed in
    float32. `ema` takes the averaged weights of each model that holds both. `vae` and `text_encoders` replace those of
    A, and are not merged. `loras`, with weights as in prompts ("style:0.8"), are added to the result, or to the only
    model; `lora_partial` takes what fits of one that fits in part. `progress(bytes done, bytes in all, what)` may raise
    to stop.

    The models may have different layouts, precisions and formats. The result appears when it is whole, or not at all.
    Raises SfumatoError for models that do not fit together, for options that do not fit the method, when `out` is there
    and not `overwrite`, and naming the tensor when a value does not fit in the type.
    """
    out = Path(out)
    if isinstance(dtype, str):
        if dtype not in DTYPES:
            raise unknown("dtype", dtype, DTYPES)
        dtype = DTYPES[dtype]
    if len(models) == 1 and loras:
        method = ALONE
    chosen, how = _how(models, method, weights, density, seed)
    if blocks is not None and method in ("mean", ALONE):
        raise OptionError(f"`blocks` has no meaning for the `method` {method}; leave it out")
    with opened_inputs(models, parts=parts, vae=vae, text_encoders=text_encoders, ema=ema, dtype=dtype) as inputs:
        first, layout = inputs[0], "original" if out.suffix == ".safetensors" else "diffusers"
        for one in inputs:
            check_places(one.source.checkpoint.path, out, layout, overwrite)
        wanted = [key for key in first.shapes() if parts is None or key[0] in parts]
        family, spec = first.source.family, first.source.spec
        known = BlockWeights.of(blocks, Blocks(family, spec, wanted)) if blocks is not None else None
        merged = {key for key in wanted if key[0] not in first.given}
        baked = Baked.of([used_lora(one) for one in loras], spec, lora_partial)
        job = _Job(inputs, chosen, how, known, merged if method != ALONE else set(), baked)
        recipe = recipe_of(inputs, method, how, blocks=blocks, parts=parts, vae=vae, loras=baked.record())
        source = job.source(metadata_of(first, recipe, inputs))
        fitted = spec if layout == source.layout else family.layouts[layout].fit(spec, source.checkpoint.known_shapes)
        account = Account(source, layout, fitted)
        account.fill()
        files = folder_files_of(source, None, bool(first.given), carries=layout == source.layout)
        if layout == "diffusers":
            files[RECIPE_FILE] = to_json(recipe)
        check_space(out.parent, account.nbytes)
        with draft_beside(out) as draft:
            write(account, draft, files, MAX_FILE, steps_of(account.nbytes, progress))
            with open_checkpoint(draft) as result:
                check_read_back(account, result)
            for one in inputs:
                one.source.checkpoint.check_unchanged()
            put(draft, out)
    return Merged(out, family.name, len(job.wanted | baked.changes.keys()), recipe)


def _how(
    models: Sequence[str | Path], method: str, weights: float | Sequence[float] | None, density: float | None, seed: int
) -> tuple[Method, How]:
    """The method and what it is told. Raises SfumatoError for what does not fit it."""
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    chosen, count = METHODS[method], len(models)
    least, most = chosen.models
    if count < least or (most is not None and count > most):
        needed = f"{least}" if least == most else f"{least} or more"
        raise OptionError(f"the `method` {method} takes {needed} models, {count} are given: it is {chosen.formula}")
    usual = chosen.defaults(count)
    if weights is not None and not usual:
        raise OptionError("`weights` have no meaning for one model; a LoRA's stands behind its name, as in style:0.8")
    given = usual if weights is None else (weights,) if isinstance(weights, int | float) else tuple(weights)
    if len(given) == 1:
        given *= len(usual)
    if len(given) != len(usual) or not all(math.isfinite(w) for w in given):
        one = "one weight" if len(usual) == 1 else f"{len(usual)} weights, or one for all"
        raise OptionError(f"`weights` are {len(given)} numbers; {method} of {count} models has {one}, all finite")
    if method == "mean" and not sum(given):
        raise OptionError("the `weights` of the mean add up to 0; give others")
    if density is not None and chosen.density is None:
        raise OptionError(f"`density` has no meaning for the `method` {method}; leave it out")
    if density is not None and not 0 < density <= 1:
        raise OptionError(f"`density` is {density}; give a share above 0 and up to 1")
    if not 0 <= seed < 2**64:
        raise OptionError(f"`seed` is {seed}; give a whole number from 0 to 2^64 - 1")
    return chosen, How(tuple(map(float, given)), density or chosen.density or 1.0, seed)


@dataclass(frozen=True)
class _Job:
    """What is computed: the `wanted` parameters of the first input, from all inputs, then those that LoRAs change."""

    inputs: Sequence[Input]
    method: Method
    how: How
    blocks: BlockWeights | None
    wanted: set[Parameter]
    baked: Baked

    def source(self, metadata: dict[str, str]) -> Source:
        """The first input with tensors that are merged when they are read."""
        first = self.inputs[0].source
        tensors = dict(first.checkpoint.tensors)
        for part, rules in first.plan.keymap.parts.items():
            for rule in rules:
                if any((key := (part, name)) in self.wanted or key in self.baked.changes for name in rule.ours):
                    for i, name in enumerate(first.names(rule)):
                        tensors[name] = self._computed(part, rule, i, tensors[name], name)
        return replace(first, checkpoint=replace(first.checkpoint, tensors=tensors, metadata=metadata))

    def _computed(self, part: str, rule: Rule, i: int, stored: Stored, name: str) -> _Computed:
        dtype = self.inputs[0].source.dtype or (torch.float16 if stored.dtype in EIGHTS else stored.dtype)

        def make() -> Tensor:
            store = partial(cast, dtype=dtype, name=name)
            return rule.transform.to_theirs([self.baked_parameter((part, own), store) for own in rule.ours])[i]

        return _Computed(stored.file, 0, stored.shape, dtype, make=make)

    def baked_parameter(self, key: Parameter, store: Store) -> Tensor:
        """One parameter of the result, in the type that `store` gives it."""
        if key not in self.baked.changes:
            return self.parameter(key, store)
        return store(self.baked.parameter(key, lambda one: self.parameter(one, torch.Tensor.float)))

    def parameter(self, key: Parameter, store: Store) -> Tensor:
        """One parameter before LoRAs are added, in the type that `store` gives it."""
        having = [one for one in self.inputs if key in one.source.params] if key in self.wanted else self.inputs[:1]
        tensors = [one.read(key) for one in having]
        try:
            if len(having) < len(self.inputs):  # nothing reads it, and some layouts leave it out
                return store(tensors[0].clone())
            how, name = self._how(key), ".".join(key)
            if all(one.shape == tensors[0].shape for one in tensors):
                return combine(self.method, tensors, how, name, store)
            channels = min(one.shape[1] for one in tensors)  # of an inpainting model and its base
            result = store(tensors[0].clone())
            result[:, :channels] = combine(self.method, [one[:, :channels] for one in tensors], how, name, store)
            return result
        finally:
            del tensors
            for one in having:
                one.release(key)

    def _how(self, key: Parameter) -> How:
        weight = None if self.blocks is None else self.blocks.weight(*key)
        if weight is None:
            return self.how
        several = self.method.per_model
        return replace(self.how, weights=tuple(w * weight for w in self.how.weights) if several else (weight,))
