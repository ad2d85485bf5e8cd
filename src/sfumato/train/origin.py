"""Where a sheet of a run comes from, written into its file: step, recipe, weights, and one hash over all of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin
from torch import nn

import sfumato
from sfumato.files import atomic_write
from sfumato.train.processes import sha256_of

KEY = "sfumato.training"


def origin(record: Mapping[str, Any], step: int, networks: nn.Module) -> dict[str, Any]:
    """Returns the step, SHA-256 of the recipe and of the networks' weights, the version, and as `lineage` a hash of
    these."""
    found = {
        "step": step,
        "recipe": _sha256(record),
        "weights": sha256_of(networks),
        "version": sfumato.__version__,
    }
    return found | {"lineage": _sha256(found)}


def save_sheet(path: Path, picture: Image.Image, found: Mapping[str, Any]) -> None:
    """Writes a PNG that holds its origin as text."""
    text = PngImagePlugin.PngInfo()
    text.add_text(KEY, json.dumps(found))
    with atomic_write(path) as file:
        picture.save(file, "PNG", pnginfo=text)


def origin_in(path: Path) -> dict[str, Any]:
    """Returns the origin that a sheet holds, or nothing for one of an earlier version."""
    with Image.open(path) as picture:
        text = picture.info.get(KEY)
    return json.loads(text) if isinstance(text, str) else {}


def _sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
