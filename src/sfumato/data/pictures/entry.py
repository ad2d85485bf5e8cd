"""What a reader finds: where a picture's bytes are, and what is said of it."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image

from sfumato.data.pictures.options import SubsetOptions
from sfumato.errors import SfumatoError
from sfumato.files import read_bytes, short_path
from sfumato.images.files import READABLE, read_picture, upright_size

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")  # of files in READABLE
assert len(READABLE) == len(ENDINGS) - 1, "one ending a format, and two of JPEG"
LISTED = 5  # names in a message


class Source(Protocol):
    """The bytes of a file, wherever they lie."""

    @property
    def name(self) -> str:
        """What messages call it."""

    def read(self) -> bytes:
        """Returns all bytes. Raises SfumatoError if they cannot be read."""


@dataclass(frozen=True)
class File:
    """A file by itself."""

    path: Path

    @property
    def name(self) -> str:
        """See `Source`."""
        return short_path(self.path)

    def read(self) -> bytes:
        """See `Source`."""
        return read_bytes(self.path)


@dataclass(frozen=True)
class Slice:
    """A part of a larger file, such as a member of an archive."""

    path: Path
    name: str
    start: int
    length: int

    def read(self) -> bytes:
        """See `Source`."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.start)
                content = file.read(self.length)
        except OSError as error:
            raise SfumatoError(f"cannot read {self.name}: {error.strerror}; is the disk still there?") from error
        if len(content) < self.length:
            raise SfumatoError(f"{self.name} ends too early; {short_path(self.path)} is cut off, fetch it again")
        return content


@dataclass(frozen=True)
class Cell:
    """A value of a table, fetched when it is asked for."""

    name: str
    fetch: Callable[[], bytes]

    def read(self) -> bytes:
        """See `Source`."""
        return self.fetch()


@dataclass(frozen=True)
class Entry:
    """A picture with its captions, its mask for the loss, and how it is used."""

    source: Source
    captions: tuple[str, ...]
    options: SubsetOptions
    mask: Source | None = None


def size_of(source: Source) -> tuple[int, int]:
    """Returns width and height of a picture as it is seen upright, from the beginning of its file.

    Raises SfumatoError for other formats, and for sizes beyond the limit.
    """
    return upright_size(source.path if isinstance(source, File) else io.BytesIO(source.read()), source.name)


def decoded(source: Source) -> Image.Image:
    """Returns a picture upright, RGB, or RGBA if any of it is transparent. Raises SfumatoError for a broken file."""
    return read_picture(io.BytesIO(source.read()), source.name)


def named(names: Sequence[str]) -> str:
    """Returns the first few names for a message, and how many more there are."""
    more = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {more} more" if more > 0 else "")
