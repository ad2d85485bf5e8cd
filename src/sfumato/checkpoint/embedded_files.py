"""What a model says of itself beside its weights: the JSON and tokenizer files of a diffusers folder.

A single file has no room for them but its header: there, files that sfumato wrote carry them as metadata.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sfumato.errors import SfumatoError

PLAIN, PACKED = "sfumato:", "sfumato.zlib:"
MAX_PLAIN = 4096  # bytes; longer ones are compressed
MAX_FILE = 16 << 20
MAX_ALL = 64 << 20  # bytes of all files in one header, which are a few MB; zeros pack a thousandfold
SUFFIXES = (".json", ".txt", ".model")
NAME = re.compile(r"([A-Za-z0-9_-]+/)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+")  # what may be written to a folder


def of_folder(path: Path, index: Mapping[str, Any]) -> dict[str, bytes]:
    """The files of a diffusers folder that hold no weights, by their path in it.

    Raises SfumatoError for one that is too big or cannot be read.
    """
    files = [path / name for name in ("model_index.json", "sfumato.json")]
    for component in index:
        if Path(component).name == component and (path / component).is_dir():
            files += sorted((path / component).iterdir())
    result = {}
    for file in files:
        if file.is_file() and file.suffix in SUFFIXES and not file.name.endswith(".index.json"):
            try:
                if file.stat().st_size > MAX_FILE:
                    raise SfumatoError(f"{file} is no configuration, it is over {MAX_FILE} bytes long; remove it")
                result[file.relative_to(path).as_posix()] = file.read_bytes()
            except OSError as error:
                raise SfumatoError(f"cannot read {file}: {error.strerror}; fetch the folder again") from error
    return result


def pack(files: Mapping[str, bytes]) -> dict[str, str]:
    """The files as metadata of a safetensors file."""
    result = {}
    for name, content in sorted(files.items()):
        text = content.decode(errors="surrogateescape")
        if len(content) <= MAX_PLAIN and text.isascii():
            result[PLAIN + name] = text
        else:
            result[PACKED + name] = base64.b64encode(zlib.compress(content, 9)).decode()
    return result


def unpack(metadata: Mapping[str, str], where: Path) -> tuple[dict[str, bytes], dict[str, str]]:
    """The files that metadata carry, and the metadata without them. Raises SfumatoError for broken ones."""
    files, rest = {}, {}
    for key, value in metadata.items():
        prefix = next((prefix for prefix in (PLAIN, PACKED) if key.startswith(prefix)), None)
        if prefix is None:
            rest[key] = value
        elif NAME.fullmatch(name := key.removeprefix(prefix)) is None:
            raise SfumatoError(f"{where} carries a file of the odd name {name!r} in its header; do not use it")
        else:
            files[name] = _plain(name, value, where) if prefix == PLAIN else _inflate(name, value, where)
            if sum(map(len, files.values())) > MAX_ALL:
                raise SfumatoError(f"{where} carries over {MAX_ALL} bytes of files in its header; do not use it")
    return files, rest


def _plain(name: str, value: str, where: Path) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise SfumatoError(f"{where} carries {name} in its header, but no text; convert it again") from error


def _inflate(name: str, value: str, where: Path) -> bytes:
    try:
        machine = zlib.decompressobj()
        content = machine.decompress(base64.b64decode(value, validate=True), MAX_FILE)
        whole = machine.eof
    except (ValueError, binascii.Error, zlib.error):
        whole = False
    if not whole:
        raise SfumatoError(f"{where} carries {name} in its header, but broken or too long; convert it again")
    return content


def configs(files: Mapping[str, bytes], where: Path) -> dict[str, dict[str, Any]]:
    """The JSON objects among the files that describe networks and pipeline, named as in `Checkpoint.configs`."""
    result = {}
    for name, content in files.items():
        if Path(name).name in ("config.json", "scheduler_config.json", "model_index.json", "sfumato.json"):
            try:
                value = json.loads(content)
            except (ValueError, RecursionError):
                value = None
            if not isinstance(value, dict):
                raise SfumatoError(f"{where} carries {name} in its header, but no JSON object; convert it again")
            result["defaults" if name == "sfumato.json" else name.removesuffix(".json")] = value
    return result
