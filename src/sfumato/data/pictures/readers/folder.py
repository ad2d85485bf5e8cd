"""Reads a folder of pictures with captions in files beside them, folders in it too.

A folder called NUMBER_NAME holds pictures that come so often in an epoch, and whose caption is NAME where no file has
one: the layout of kohya's scripts.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from sfumato.data.pictures.entry import ENDINGS, Entry, File, named
from sfumato.data.pictures.options import PictureOptions
from sfumato.data.pictures.readers.caption_files import default_captions, from_file
from sfumato.errors import SfumatoError
from sfumato.files import read_text

MASK = "_mask"  # the end of the name of a picture's mask, before the ending
FOREIGN = (".tif", ".tiff", ".avif", ".heic", ".heif", ".jxl", ".psd", ".svg")  # pictures that are not read
MOST_REPEATS = 1000  # a larger number before a name is a year or a count, and no repeats
_KOHYA = re.compile(r"(\d+)_(.*)")


def folder_entries(folder: Path, options: PictureOptions, deep: bool = True) -> Iterator[Entry]:
    """Yields an entry a picture, in the order of names; with `deep` those of folders within, too.

    Hidden files and folders are left out. Raises SfumatoError for a caption file that cannot be read.
    """
    for path in picture_files(folder, deep):
        own = repeats_of(path.relative_to(folder).parts[:-1], options)
        mask = mask_beside(path) if own.masks == "beside" else None
        captions = captions_beside(path, own)
        yield Entry(File(path), captions or default_captions(own), own, File(mask) if mask else None)


def picture_files(folder: Path, deep: bool = True) -> list[Path]:
    """Returns the pictures of a folder, without masks, in the order of names."""
    found = [path for path in _files(folder, deep) if path.suffix.lower() in ENDINGS]
    stems = {path.with_suffix("") for path in found}
    return [p for p in found if not (p.stem.endswith(MASK) and p.with_name(p.stem.removesuffix(MASK)) in stems)]


def left_over(folder: Path, options: PictureOptions) -> list[str]:
    """Returns notes on files that look like pictures or captions, and are not read."""
    files = list(_files(folder, True))
    stems = {path.with_suffix("") for path in files if path.suffix.lower() in ENDINGS}
    foreign = [str(path) for path in files if path.suffix.lower() in FOREIGN]
    plain = [ending for ending in options.caption_endings if ending != ".json"]
    alone = [str(path) for path in files if path.suffix in plain and path.with_suffix("") not in stems]
    notes = []
    if foreign:
        notes.append(
            f"files of other formats, which are left out ({len(foreign)}): {named(foreign)}; convert them to PNG"
        )
    if alone:
        notes.append(f"caption files without a picture ({len(alone)}): {named(alone)}")
    return notes


def captions_beside(picture: Path, options: PictureOptions) -> tuple[str, ...]:
    """Returns the captions in the first caption file that lies beside a picture and is not empty."""
    for ending in options.caption_endings:
        path = picture.with_suffix(ending)
        if path.is_file() and (found := from_file(read_text(path), ending, str(path), options)):
            return found
    return ()


def mask_beside(picture: Path) -> Path | None:
    """Returns the mask of a picture, NAME_mask with any picture's ending, or None."""
    masks = (picture.with_name(f"{picture.stem}{MASK}{ending}") for ending in ENDINGS)
    return next((path for path in masks if path.is_file()), None)


def repeats_of(folders: tuple[str, ...], options: PictureOptions) -> PictureOptions:
    """Returns the options of a picture in these folders, of which the last one called NUMBER_NAME counts."""
    for name in reversed(folders):
        found = _KOHYA.fullmatch(name)
        if found and 1 <= int(found[1][:9]) <= MOST_REPEATS:
            repeats = int(found[1]) * options.repeats
            return replace(options, repeats=repeats, default_caption=options.default_caption or found[2].strip())
    return options


def _files(folder: Path, deep: bool) -> Iterator[Path]:
    def failed(error: OSError) -> None:
        raise SfumatoError(f"cannot read the folder {error.filename}: {error.strerror}; give another one")

    for place, folders, files in os.walk(folder, onerror=failed):
        folders[:] = sorted(name for name in folders if deep and not name.startswith("."))
        yield from (Path(place, name) for name in sorted(files) if not name.startswith("."))
