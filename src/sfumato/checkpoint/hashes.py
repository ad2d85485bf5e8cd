"""Naming a model by its bytes. Hashes of files of gigabytes are kept, by path, size and time of the last change."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from sfumato import user_config as settings
from sfumato.errors import SfumatoError
from sfumato.files import atomic_write

CHUNK = 16 << 20
LARGE = 1 << 20  # smaller files are hashed faster than anyone notices, and not kept


def model_hash(path: Path) -> str | None:
    """First ten hexadecimal digits of the SHA-256 of a checkpoint file, or of a folder's U-Net file; None without one.

    The community's tools identify models by these digits.
    """
    file = hashed_file(path)
    return sha256(file)[:10] if file is not None else None


def hashed_file(path: Path) -> Path | None:
    """The file whose hash stands for a model."""
    if path.is_dir():
        parts = (path / "unet", path / "transformer")
        path = next((file for part in parts for file in sorted(part.glob("*.safetensors"))), path)
    return path if path.is_file() else None


def kept_sha256(path: Path) -> str | None:
    """The SHA-256 of a file if it was computed before and the file is as it was; hexadecimal."""
    entry = _kept().get(os.path.abspath(path))
    return entry["sha256"] if isinstance(entry, dict) and entry == _entry(path, entry.get("sha256")) else None


def sha256(path: Path, progress: Callable[[int], None] = lambda count: None) -> str:
    """The SHA-256 of a file, hexadecimal; `progress` is told how many bytes more were read.

    Raises SfumatoError when the file cannot be read.
    """
    known = kept_sha256(path)
    if known is not None:
        return known
    digest = hashlib.sha256()
    try:
        before = _entry(path, None)
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                progress(len(chunk))
        entry = _entry(path, digest.hexdigest())
    except OSError as error:
        raise SfumatoError(f"cannot read {path}: {error.strerror}; check the disk") from error
    if entry["size"] >= LARGE and entry | {"sha256": None} == before:
        keep(path, digest.hexdigest())
    return digest.hexdigest()


def sha256_of_tensors(path: Path) -> str | None:
    """The SHA-256 of what follows the header of a .safetensors, hexadecimal; None for a file of another kind.

    Raises SfumatoError when the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if file.read(1) != b"{" or 8 + size > path.stat().st_size:
                return None
            file.seek(8 + size)
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise SfumatoError(f"cannot read {path}: {error.strerror}; check the disk") from error
    return digest.hexdigest()


def keep(path: Path, value: str) -> None:
    """Remember the SHA-256 of a file; a folder that cannot be written is no reason to fail."""
    with suppress(SfumatoError, OSError):
        entries = {name: entry for name, entry in _kept().items() if os.path.exists(name)}
        entries[os.path.abspath(path)] = _entry(path, value)
        with atomic_write(_file()) as file:
            file.write(json.dumps(entries, indent=1).encode())


def _file() -> Path:
    return settings.folder("cache") / "hashes.json"


def _entry(path: Path, value: str | None) -> dict[str, Any]:
    try:
        status = path.stat()
    except FileNotFoundError:
        return {}
    return {"size": status.st_size, "changed": status.st_mtime_ns, "sha256": value}


def _kept() -> dict[str, Any]:
    try:
        entries = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return entries if isinstance(entries, dict) else {}
