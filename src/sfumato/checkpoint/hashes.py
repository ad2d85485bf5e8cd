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
# Of a folder, those whose weights change pictures.
PARTS = ("prior", "text_encoder", "text_encoder_2", "text_encoder_3", "transformer", "unet", "vae")
LARGE = 1 << 20  # smaller files are hashed faster than anyone notices, and not kept


def model_hash(path: Path) -> str | None:
    """The first ten hexadecimal digits by which settings of pictures name a model, None without weights.

    Of a checkpoint file they are those of its SHA-256, by which the community's tools know it. Of a folder they are
    those of the SHA-256 of a list: a line for each file of weights that pictures depend on, with the name of its part
    and its own SHA-256.
    """
    if not path.is_dir():
        return sha256(path)[:10] if path.is_file() else None
    files = [file for part in PARTS for file in sorted((path / part).glob("*.safetensors"))]
    lines = [f"{file.parent.name} {sha256(file)}\n" for file in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:10] if lines else None


def hashed_file(path: Path) -> Path | None:
    """The file by whose hash a model is known: of a folder that of its U-Net or transformer."""
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
