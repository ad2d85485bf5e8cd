"""What diffusers and peft say of a LoRA beside its tensors: alphas, in the header or in a file of their own."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sfumato.checkpoint.open import read_json

CONFIG = "adapter_config.json"
HEADER = "lora_adapter_metadata"
TERMS = 5  # of peft's series, if nobody says

Alpha = Callable[[str, int], float | None]
"""The alpha of a layer of this rank, None where nothing states it."""


def alphas(path: Path, metadata: Mapping[str, str]) -> Alpha:
    """The alphas that a file's header states (diffusers), or an `adapter_config.json` beside it (peft).

    Raises SfumatoError for a file beside it that cannot be read.
    """
    beside = path.with_name(CONFIG)
    if HEADER in metadata:
        settings = _parts(metadata[HEADER])
    elif path.stem == "adapter_model" and beside.is_file():
        settings = {"": read_json(beside)}
    else:
        settings = {}

    def alpha(layer: str, rank: int) -> float | None:
        for part, said in settings.items():
            if layer.startswith(part):
                return _alpha(said, layer, rank)
        return None

    return alpha


def neumann_terms(path: Path) -> int | None:
    """How many terms of a series peft took for the turns of OFT, as an `adapter_config.json` beside a file says it.

    None where it says that there was no series. Raises SfumatoError for a config that cannot be read.
    """
    beside = path.with_name(CONFIG)
    said = read_json(beside) if path.stem == "adapter_model" and beside.is_file() else {}
    count = said.get("num_cayley_neumann_terms", TERMS)
    return count if said.get("use_cayley_neumann", True) is True and isinstance(count, int) else None


def _parts(text: str) -> dict[str, dict[str, Any]]:
    """Settings by what the names of their layers begin with: diffusers keeps all parts' in one object."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    parts: dict[str, dict[str, Any]] = {}
    for name, value in found.items() if isinstance(found, dict) else ():
        part, _, setting = name.partition(".")
        parts.setdefault(f"{part}.", {})[setting] = value
    return parts


def _alpha(said: Mapping[str, Any], layer: str, rank: int) -> float | None:
    value = said.get("lora_alpha")
    patterns = said.get("alpha_pattern")
    for pattern, other in patterns.items() if isinstance(patterns, dict) else ():
        if layer.endswith(str(pattern)):
            value = other
    if not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value * math.sqrt(rank) if said.get("use_rslora") else float(value)
