"""Naming a model by its bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path


def model_hash(path: Path) -> str | None:
    """First ten hexadecimal digits of the SHA-256 of a checkpoint file, or of a folder's U-Net file; None without one.

    The community's tools identify models by these digits.
    """
    if path.is_dir():
        path = next(iter(sorted((path / "unet").glob("*.safetensors"))), path)
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:10]
