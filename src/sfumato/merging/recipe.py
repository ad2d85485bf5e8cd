"""The recipe of a merge as its result has it, and the recipes of what it was made of."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sfumato.merging.formulas import METHODS, How
from sfumato.merging.inputs import Input

RECIPE, MODELS = "sd_merge_recipe", "sd_merge_models"  # where A1111 writes them in a header
RECIPE_FILE = "sfumato-merge.json"  # where a folder has them
# What a header says of the network, which stays true of the result; all else (title, hash, author) does not.
KEPT = ("modelspec.architecture", "modelspec.implementation", "modelspec.prediction_type", "modelspec.resolution",
        "modelspec.sai_model_spec", "ss_zero_terminal_snr", "format")  # fmt: skip
MOST_LINEAGE = 1 << 20  # letters of the recipes of inputs that are carried on


def recipe_of(inputs: Sequence[Input], method: str, how: How, **more: object) -> dict[str, Any]:
    """The recipe as the file has it: what was done with which files."""
    chosen = METHODS[method]
    record: dict[str, Any] = {
        "type": "sfumato", "method": method, "formula": chosen.formula, "weights": list(how.weights),
        "models": [{"name": one.name, "sha256": one.sha256} for one in inputs],
    }  # fmt: skip
    if chosen.density is not None:
        record["density"] = how.density
    if chosen.random:
        record["seed"] = how.seed
    if any(one.source.ema for one in inputs):
        record["ema"] = [one.source.ema for one in inputs]
    return record | {
        name: value if isinstance(value, list | dict) else str(value) for name, value in more.items() if value
    }


def metadata_of(first: Input, recipe: Mapping[str, Any], inputs: Sequence[Input]) -> dict[str, str]:
    """The header of the result: what stays true of A, the recipe, and the recipes of the inputs by their hashes."""
    lineage: dict[str, Any] = {}
    for one in inputs:
        before = one.source.checkpoint.metadata
        lineage |= _read(before.get(MODELS)) or {}
        own = _read(before.get(RECIPE))
        lineage[one.sha256 or one.name] = {"name": one.name, RECIPE: own}
    kept = {name: text for name, text in first.source.checkpoint.metadata.items() if name in KEPT}
    carried = json.dumps(lineage)
    return kept | {RECIPE: json.dumps(recipe)} | ({MODELS: carried} if len(carried) <= MOST_LINEAGE else {})


def _read(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return None
