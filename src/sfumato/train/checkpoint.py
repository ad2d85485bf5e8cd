"""Checkpoints of a run: a folder each, which is there whole or not at all; the newest two are kept.

`manifest.json` names every file of the folder with its size and SHA-256. The folder is made under a hidden name, each
file is synced to the disk, and only then it gets its own name: that renaming is the one point at which a checkpoint
comes to be. Older ones are deleted after the new one has been read back. So there is no moment at which a crash leaves
a run without a whole checkpoint, or with one that mixes two steps.

Runs of earlier versions hold one file a checkpoint, `step-*.pt`; those are read as well.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch

from sfumato.errors import SfumatoError, warn
from sfumato.files import hidden_folder, sync_folder, writing
from sfumato.train import packing, shard_files
from sfumato.train.shard_files import Share

FORMAT = 2
FORMAT_OF_FILES = 1
KEPT = 2
MANIFEST = "manifest.json"


def find(run: Path) -> Path | None:
    """Returns the newest whole checkpoint of a run folder, or None if it holds none at all.

    Every byte is compared with the manifest. SfumatoWarning names a damaged checkpoint that is passed over. Raises
    SfumatoError if there are checkpoints and all are damaged.
    """
    passed: list[str] = []
    for path in reversed(_all(run)):
        damage = damage_of(path)
        if damage is None:
            for text in passed:
                warn(f"{text}; going on from {path.name}, which is whole")
            return path
        passed.append(f"{path} is no readable checkpoint ({damage})")
    if passed:
        raise SfumatoError(f"{passed[0]}, and there is no other whole one; delete {run / 'checkpoints'} to begin anew")
    return None


def save(run: Path, step: int, state: dict[str, Any]) -> Path:
    """Writes `state` as the checkpoint of `step`, deletes all but the newest ones, and returns its folder.

    Every entry of `state` that holds tensors becomes a file, NAME.safetensors; the others stand in the manifest. Raises
    SfumatoError if the disk is full or cannot be written; the older checkpoints are still there then.
    """
    path = place_of(run, step)
    if path.exists() and damage_of(path) is None:  # no step was done since it was read
        return path
    with hidden_folder(path) as hidden, writing(path):
        made = hidden / path.name
        made.mkdir()
        files: dict[str, dict[str, Any]] = {}
        plain: dict[str, Any] = {}
        for name, value in state.items():
            if _has_tensors(value):
                with _hashed(made / f"{name}.safetensors", files) as file:
                    packing.write(file, value)
            else:
                plain[name] = packing.pack(value, {})
        commit(made, path, {"step": step, "files": files, "state": plain})
    check_written(run, path)
    return path


def place_of(run: Path, step: int) -> Path:
    """Returns the folder of the checkpoint of a step."""
    return run / "checkpoints" / f"step-{step:08d}"


def commit(made: Path, path: Path, said: Mapping[str, Any]) -> None:
    """Writes the manifest of what lies in `made`, a folder in a hidden one, syncs both, and gives it the name `path`.

    `said` is what the manifest says besides the format.
    """
    with _hashed(made / MANIFEST, {}) as file:
        file.write(json.dumps({"format": FORMAT, **said}, indent=1).encode())
    sync_folder(made)
    if path.exists():  # a damaged one that was passed over
        path.rename(made.parent / "former")
    made.rename(path)
    sync_folder(path.parent)


def check_written(run: Path, path: Path) -> None:
    """Reads a checkpoint back, and deletes all but the newest ones. Raises SfumatoError if it is damaged."""
    damage = damage_of(path)
    if damage is not None:
        raise SfumatoError(f"{path} was written, but does not read back ({damage}); check the disk")
    for old in _all(run)[:-KEPT]:
        shutil.rmtree(old) if old.is_dir() else old.unlink()


def load(path: Path, device: torch.device, share: Share | None = None) -> dict[str, Any]:
    """Returns the state of a checkpoint, with its `step`; nothing in it is executed.

    Tensors are on `device`. Of what processes wrote in shares, `share` makes what a process takes of a tensor (None:
    all of it). Raises SfumatoError for what is no checkpoint of this or an earlier version.
    """
    try:
        if path.is_dir():
            manifest = _manifest(path)
            shards = manifest.get("shards")
            tensors = {} if shards is None else shard_files.read(path, shards, device, share)
            state = {name: packing.unpack(value, tensors) for name, value in manifest["state"].items()}
            for file in manifest["files"] if shards is None else ():
                state[Path(file).stem] = packing.read(path / file, str(device))
            state.setdefault("ema", state["networks"])  # without averages the weights stand for them
            return state | {"format": manifest["format"], "step": manifest["step"]}
        state = torch.load(path, map_location=device, weights_only=True)
        _check_format(path, state["format"], FORMAT_OF_FILES)
        return state
    except SfumatoError:
        raise
    except Exception as error:  # torch.load raises many kinds
        raise SfumatoError(f"{path} is no readable checkpoint ({type(error).__name__}); delete it to go on") from error


def damage_of(path: Path) -> str | None:
    """Returns what is wrong with the bytes of a checkpoint, or None if they are those that were written."""
    try:
        if not path.is_dir():
            with zipfile.ZipFile(path) as archive:
                bad = archive.testzip()
            return bad and f"{bad} is damaged"
        for name, said in _manifest(path)["files"].items():
            size = (path / name).stat().st_size
            if size != said["bytes"]:
                return f"{name} has {size:,} bytes and not {said['bytes']:,}"
            if sha256(path / name) != said["sha256"]:
                return f"{name} is not what was written"
    except SfumatoError:
        raise
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        return str(error) or type(error).__name__
    return None


def _all(run: Path) -> list[Path]:
    """All checkpoints of a run, whole or not, the oldest first."""
    return sorted(run.glob("checkpoints/step-*"), key=lambda path: path.stem)


def _manifest(path: Path) -> dict[str, Any]:
    manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    _check_format(path, manifest["format"], FORMAT)
    return manifest


def _check_format(path: Path, found: object, expected: int) -> None:
    if found != expected:
        raise SfumatoError(
            f"{path} has format {found}, expected {expected}; another version of sfumato wrote it: use that one, "
            "or choose another run folder"
        )


def _has_tensors(value: Any) -> bool:
    tensors: dict[str, torch.Tensor] = {}
    packing.pack(value, tensors)
    return bool(tensors)


class _HashingFile:
    """A file that hashes what is written to it."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.sha256, self.bytes = hashlib.sha256(), 0

    def write(self, content: Any, /) -> None:
        self._file.write(content)
        self.sha256.update(content)
        self.bytes += memoryview(content).nbytes


@contextmanager
def _hashed(path: Path, files: dict[str, dict[str, Any]]) -> Iterator[_HashingFile]:
    """Opens a new file for writing, syncs it to the disk, and enters its size and hash in `files`."""
    with path.open("xb") as raw:
        file = _HashingFile(raw)
        yield file
        raw.flush()
        os.fsync(raw.fileno())
    files[path.name] = {"bytes": file.bytes, "sha256": file.sha256.hexdigest()}


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
