"""Which file of the model folders the name of an adapter means: by its file's name, its trainer's, or a hash."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Container
from pathlib import Path

from sfumato.checkpoint.formats.safetensors_file import looks_like
from sfumato.checkpoint.hashes import sha256, sha256_of_tensors
from sfumato.errors import SfumatoError
from sfumato.hub.local_models import ADAPTERS, EXAMPLES, Found, found, in_model_folders, permitted
from sfumato.user_config import confined, shipped

HASH = re.compile(r"[0-9a-fA-F]{8,64}")
MAX_HEADER = 64 << 20


KINDS = ADAPTERS
IMAGE_KIND = "ip-adapter"


def find_adapter(name: str, kinds: Container[str] = KINDS, else_do: str = "") -> Path:
    """The file of one of these kinds that a path or name means.

    `else_do` is what a user may do besides giving another. Raises SfumatoError for what is not here, or may mean
    several files.

    Names are those of files, with or without ending, then what trainers called them (`ss_output_name`), then the first
    digits of a hash: of the file, or of its tensors alone.
    """
    try:
        given = Path(name).expanduser()
        if name and given.is_file() and (not confined() or in_model_folders(given)):
            return given
    except (ValueError, RuntimeError, OSError):  # no path, the home of nobody, too long a name
        pass
    here = [one for one in found() if one.kind in kinds]
    for alike in (_has_name, _has_lower_name, _has_trained_name, _has_hash):
        several = [one for one in here if alike(one, name)]
        several = [
            one for one in several if not one.path.is_relative_to(shipped(EXAMPLES))
        ] or several  # the user's first
        if len(several) == 1:
            return permitted(several[0].path)
        if several:
            paths = ", ".join(str(one.path) for one in several)
            raise SfumatoError(f"the adapter {name!r} may mean {paths}; give the path of one of them")
    near = difflib.get_close_matches(name, [one.name for one in here], n=3)
    near = near or [one.name for one in here[:3]]
    hint = f"such as {' or '.join(near)}" if near else "there are none"
    give = f"give a file, or the name of one in the model folders ({hint})"
    raise SfumatoError(f"there is no adapter {name!r}; {'; '.join(filter(None, (give, else_do)))}")


def _has_name(one: Found, name: str) -> bool:
    return name in (one.name, one.path.name)


def _has_lower_name(one: Found, name: str) -> bool:
    return name.lower() in (one.name.lower(), one.path.name.lower())


def _has_trained_name(one: Found, name: str) -> bool:
    return bool(name) and header(one.path).get("ss_output_name") == name


def _has_hash(one: Found, name: str) -> bool:
    return HASH.fullmatch(name) is not None and any(value.startswith(name.lower()) for value in hashes(one.path))


def hashes(path: Path) -> tuple[str, ...]:
    """The SHA-256 of a file, and that of its tensors alone as its trainer wrote it (`sshs_model_hash`) or as it is."""
    own = header(path).get("sshs_model_hash") or sha256_of_tensors(path)
    return (sha256(path), *([own.lower()] if own else []))


def header(path: Path) -> dict[str, str]:
    """What a .safetensors says of itself; nothing for a file that cannot be read as one."""
    try:
        with path.open("rb") as file:
            start = file.read(64)
            size = int.from_bytes(start[:8], "little")
            if not looks_like(start) or size > MAX_HEADER:
                return {}
            file.seek(8)
            said = json.loads(file.read(size)).get("__metadata__", {})
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}
    return {key: value for key, value in said.items() if isinstance(value, str)} if isinstance(said, dict) else {}
