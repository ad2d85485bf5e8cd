"""Where a command's pictures go. No file that exists is ever replaced without --overwrite."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path

from PIL import Image

from sfumato.errors import SfumatoError, unknown
from sfumato.files import check_writable
from sfumato.images.files import FORMATS, encode, save

STDOUT = "-"
PLACES = ("seed", "name", "number")
_PATTERN = re.compile(r"\{(\w*)\}")


def check_free(path: Path, overwrite: bool) -> None:
    """Raises SfumatoError where a file would be replaced that may not be."""
    if not overwrite and os.path.lexists(path):
        raise SfumatoError(f"{path} exists; give another name, or --overwrite to replace it")


def free_name(name: str, overwrite: bool) -> str:
    """A name that nobody gave, with a number where a file has it already that may not be replaced."""
    return name if overwrite else next(one for one in _again(name) if not os.path.lexists(one))


@dataclass(frozen=True)
class Destination:
    """A folder, and what the pictures in it are called.

    `name` is that of the one picture, which may not exist unless `overwrite` is set, or a pattern with {seed}, {name}
    (of the picture that is worked on, `source`) and {number}. Names from a pattern, and those that are made from number
    and seed without one, are never those of files that exist: they get a number then.
    """

    folder: Path
    name: str | None = None
    numbered: bool = True
    overwrite: bool = False
    source: str | None = None

    @classmethod
    def of(cls, out: str | None, n: int, sources: int = 1, overwrite: bool = False) -> Destination:
        """What `--out` means for n pictures of each of some sources: a file, a pattern, a folder, standard output.

        Raises SfumatoError where that is unclear, and for a pattern that gives several pictures one name.
        """
        if out is None:
            return cls(Path(), numbered=False, overwrite=overwrite)
        path = Path(out)
        if not out or path.name.lower() in FORMATS:
            raise SfumatoError(f"{out!r} names no file and no folder; give one, such as cat.png or cats/")
        if out == STDOUT:
            if n * sources > 1:
                raise SfumatoError(f"standard output takes one picture, but {n * sources} are to be drawn")
            return cls(Path(), STDOUT)
        suffix = path.suffix.lower()
        if not suffix or out.endswith(("/", os.sep)) or os.path.isdir(path):
            return cls(path, overwrite=overwrite)
        if suffix not in FORMATS:
            kinds = ", ".join(FORMATS)
            raise SfumatoError(f"cannot write pictures as {suffix} ({out}); use {kinds}, or end a folder's name with /")
        places = set(_PATTERN.findall(path.name))
        for place in places - set(PLACES):
            raise unknown(f"place in {path.name!r}", place, PLACES)
        try:
            path.name.format(seed=0, name="", number="")
        except (ValueError, IndexError, KeyError):
            raise SfumatoError(f"{out} has a brace that is no place; write {{seed}}, {{name}} or {{number}}") from None
        if _PATTERN.search(str(path.parent)):
            raise SfumatoError(f"{out} has a place in a folder's name; only a file's name may have them")
        if "number" not in places and ((n > 1 and "seed" not in places) or (sources > 1 and not places & {"name"})):
            many = f"{n * sources} pictures are to be drawn"
            raise SfumatoError(f"{out} is one file, but {many}; give a folder, or a name such as {{name}}-{{seed}}.png")
        return cls(path.parent, path.name, overwrite=overwrite)

    @property
    def standard_output(self) -> bool:
        """Whether the picture itself is printed."""
        return self.name == STDOUT

    @property
    def is_pattern(self) -> bool:
        """Whether names are made from one that has places."""
        return self.name is not None and _PATTERN.search(self.name) is not None

    def check(self, as_json: bool = False) -> None:
        """Raises SfumatoError where nothing can be written, or a file exists that may not be replaced."""
        if self.standard_output:
            if as_json:
                raise SfumatoError("--json and --out - both write to standard output; give one of them")
            return
        if self.name is not None and not self.is_pattern:
            check_free(self.folder / self.name, self.overwrite)
        check_writable(self.folder, self.name or "")

    def for_source(self, name: str) -> Destination:
        """The same for the picture that is drawn from a file of this name."""
        return replace(self, source=Path(name).stem if name != STDOUT else "stdin")

    def save(self, image: Image.Image, seed: int, infotext: str) -> Path:
        """Write a finished picture and return where. Raises SfumatoError when that fails."""
        if self.standard_output:
            sys.stdout.buffer.write(encode(image, ".png", infotext))
            sys.stdout.buffer.flush()
            return Path(STDOUT)
        if self.name is not None and not self.is_pattern:
            path = self.folder / self.name
            try:
                save(image, path, infotext, replace=self.overwrite)
            except FileExistsError:  # it has come while we drew; the picture is not lost
                return self._save_free(image, infotext, _again(path.name))
            return path
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            names = self._names(seed)
        except OSError as error:
            raise SfumatoError(f"cannot write to {self.folder}: {error.strerror}; choose another place") from error
        if self.overwrite and not (self.name is None and self.numbered):
            path = self.folder / next(names)
            save(image, path, infotext)
            return path
        return self._save_free(image, infotext, names)

    def _save_free(self, image: Image.Image, infotext: str, names: Iterator[str]) -> Path:
        """Write under the first name that is free.

        A name is taken by a whole picture only, and of two commands at once neither replaces the other's.
        """
        for path in (self.folder / name for name in names):
            with suppress(FileExistsError):
                if not path.exists():
                    save(image, path, infotext, replace=False)
                    return path
        raise AssertionError("names never end")

    def _names(self, seed: int) -> Iterator[str]:
        if self.name is not None:
            return self._from_pattern(self.name, seed)
        if self.numbered:
            taken = (re.match(r"(\d{5,9})-", path.name) for path in self.folder.iterdir())
            first = max((int(match[1]) + 1 for match in taken if match), default=0)
            return (f"{number:05}-{seed}.png" for number in count(first))
        return _again(f"sfumato-{seed}.png")

    def _from_pattern(self, name: str, seed: int) -> Iterator[str]:
        said = {"seed": seed, "name": self.source or "picture"}
        if "{number}" in name:
            return (name.format(**said, number=f"{k:05}") for k in count())
        return _again(name.format(**said))


def _again(name: str) -> Iterator[str]:
    """The name, then the same with -2, -3 ... before its ending."""
    path = Path(name)
    return (f"{path.stem}{mark}{path.suffix}" for mark in chain([""], map("-{}".format, count(2))))
