"""The names that clients gave to pictures that they sent, for later requests to name them by."""

from __future__ import annotations

import json
import re
from pathlib import Path
from threading import Lock

from sfumato.errors import SfumatoError, shortened
from sfumato.files import atomic_write

MOST_NAMES = 10_000  # of a user; those sent first leave first
_MARKED = re.compile(r"(.*?)(?: \[(input|output|temp)\])?", re.DOTALL)
_LOCK = Lock()


def checked_name(filename: str, subfolder: str = "") -> str:
    """The name of a picture with its folder before it. Raises SfumatoError for what leads out of the folder."""
    whole = f"{subfolder}/{filename}" if subfolder else filename
    parts = whole.replace("\\", "/").split("/")
    if len(whole) > 255 or any(part in ("", ".", "..") or not part.isprintable() for part in parts):
        raise SfumatoError(f"the file name {shortened(whole)} is none here; give a plain name such as photo.png")
    return "/".join(parts)


def marked(name: str) -> tuple[str, str]:
    """A name and the folder that it is in, of a text such as "photo.png [output]"."""
    found = _MARKED.fullmatch(name)
    assert found is not None
    return found[1], found[2] or "input"


class Uploads:
    """The names of a server, in a file of its folder: for each user, names with the pictures they stand for."""

    def __init__(self, folder: Path):
        self._file = folder / "comfyui-uploads.json"

    def all(self, user: str) -> dict[str, str]:
        """The pictures of a user by their names, without those of other folders than "input"."""
        return {name[6:]: one for name, one in self._read().get(user, {}).items() if name.startswith("input/")}

    def find(self, user: str, kind: str, name: str) -> str | None:
        """The picture of a name; None where there is none."""
        return self._read().get(user, {}).get(f"{kind}/{name}")

    def add(self, user: str, kind: str, name: str, picture: str, overwrite: bool = False) -> str:
        """Keeps a name for a picture; returns it, with a number where it stands for another picture already."""
        with _LOCK:
            users = self._read()
            names = users.setdefault(user, {})
            stem, dot, suffix = name.rpartition(".")
            stem, suffix = (stem, dot + suffix) if dot else (name, "")
            chosen, number = name, 1
            while not overwrite and names.get(f"{kind}/{chosen}", picture) != picture:
                chosen, number = f"{stem} ({number}){suffix}", number + 1
            names.pop(f"{kind}/{chosen}", None)
            names[f"{kind}/{chosen}"] = picture
            for first in list(names)[: max(0, len(names) - MOST_NAMES)]:
                del names[first]
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(self._file) as target:
                target.write(json.dumps(users).encode())
        return chosen

    def _read(self) -> dict[str, dict[str, str]]:
        try:
            return json.loads(self._file.read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
