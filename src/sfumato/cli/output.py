"""Where a command's pictures go."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

from PIL import Image

from sfumato.errors import SfumatoError
from sfumato.files import check_writable
from sfumato.images.files import FORMATS, save


@dataclass(frozen=True)
class Destination:
    """A folder, and the name of the one picture in it if the user gave one.

    A named file is replaced. Other names are made from number and seed, and never one that exists.
    """

    folder: Path
    name: str | None = None
    numbered: bool = True

    @classmethod
    def of(cls, out: str | None, n: int) -> Destination:
        """What `--out` means for n pictures: a file, a folder or nothing. Raises SfumatoError where that is unclear."""
        if out is None:
            return cls(Path(), numbered=False)
        path = Path(out)
        if not out or path.name.lower() in FORMATS:
            raise SfumatoError(f"{out!r} names no file and no folder; give one, such as cat.png or cats/")
        suffix = path.suffix.lower()
        if not suffix or out.endswith(("/", os.sep)) or os.path.isdir(path):
            return cls(path)
        if suffix not in FORMATS:
            kinds = ", ".join(FORMATS)
            raise SfumatoError(f"cannot write pictures as {suffix} ({out}); use {kinds}, or end a folder's name with /")
        if n > 1:
            raise SfumatoError(f"{out} is one file, but {n} pictures are to be drawn; give a folder")
        return cls(path.parent, path.name)

    def check(self) -> None:
        """See `files.check_writable`."""
        check_writable(self.folder, self.name or "")

    def save(self, image: Image.Image, seed: int, infotext: str) -> Path:
        """Write a finished picture and return where. Raises SfumatoError when that fails."""
        if self.name is not None:
            path = self.folder / self.name
            save(image, path, infotext)
            return path
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            names = self._names(seed)
        except OSError as error:
            raise SfumatoError(f"cannot write to {self.folder}: {error.strerror}; choose another place") from error
        # A name is taken by a whole picture only, and of two commands at once neither replaces the other's.
        for path in (self.folder / name for name in names):
            with suppress(FileExistsError):
                if not path.exists():
                    save(image, path, infotext, replace=False)
                    return path
        raise AssertionError("names never end")

    def _names(self, seed: int) -> Iterator[str]:
        if self.numbered:
            taken = (re.match(r"(\d{5,9})-", path.name) for path in self.folder.iterdir())
            first = max((int(match[1]) + 1 for match in taken if match), default=0)
            return (f"{number:05}-{seed}.png" for number in count(first))
        return (f"sfumato-{seed}{again}.png" for again in chain([""], map("-{}".format, count(2))))
