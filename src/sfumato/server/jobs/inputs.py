"""Stores the pictures that requests send, under a hash of their content, so that a job can start again."""

from __future__ import annotations

import hashlib
import io
import re
import time
from collections.abc import Container
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image

from sfumato.errors import SfumatoError
from sfumato.files import atomic_write
from sfumato.images.inputs import load_rgba

PREFIX = "input:"
_NAME = re.compile(r"input:[0-9a-f]{64}")
MAX_BYTES = 64 << 20  # of a picture's file


def is_input(value: object) -> bool:
    """Returns whether a value is the name of such a picture."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def find_inputs(text: str) -> list[str]:
    """Returns the names of such pictures in a text."""
    return _NAME.findall(text)


class Inputs:
    """The folder of pictures that requests sent."""

    def __init__(self, folder: Path):
        self.folder = folder

    def add(self, content: bytes | Image.Image, what: str = "the picture") -> str:
        """Stores a picture (a file's bytes, or Pillow's); returns its name. Raises SfumatoError if it is none."""
        if isinstance(content, Image.Image):
            file = io.BytesIO()
            content.save(file, "PNG")
            content = file.getvalue()
        if len(content) > MAX_BYTES:
            raise SfumatoError(f"{what} has {len(content):,} bytes; the limit is {MAX_BYTES:,}; send a smaller file")
        load_rgba(content, what)
        name = PREFIX + hashlib.sha256(content).hexdigest()
        path = self.path(name)
        if path.exists():
            path.touch()  # so that `prune` leaves it
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as target:
                target.write(content)
        return name

    def prune(self, kept: Container[str], seconds: float) -> int:
        """Removes pictures that are older than `seconds` and not among the names `kept`; returns how many."""
        until, count = time.time() - seconds, 0
        for path in self.folder.glob("??/*"):
            with suppress(OSError):
                if path.stat().st_mtime < until and PREFIX + path.name not in kept:
                    path.unlink()
                    count += 1
        return count

    def path(self, name: str) -> Path:
        """Returns the file of a picture by its name. Raises SfumatoError for a wrong name."""
        if not is_input(name):
            raise SfumatoError(f"{name[:80]!r} is no picture that was sent; send the picture itself")
        digest = name.removeprefix(PREFIX)
        return self.folder / digest[:2] / digest

    def open(self, name: str) -> Image.Image:
        """Returns the picture, in RGB or RGBA. Raises SfumatoError if it does not exist any more."""
        return load_rgba(self.path(name))

    def inserted(self, value: Any) -> Any:
        """Returns a JSON value with pictures in place of their names."""
        if isinstance(value, str):
            return self.open(value) if is_input(value) else value
        if isinstance(value, dict):
            return {name: self.inserted(one) for name, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.inserted(one) for one in value]
        return value
