"""Chooses the reader for a file or folder by what lies there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sfumato.data.pictures.entry import Entry
from sfumato.data.pictures.options import PictureOptions
from sfumato.data.pictures.picture_set import PictureSet, check_captions
from sfumato.data.pictures.readers.folder import folder_entries
from sfumato.errors import SfumatoError
from sfumato.typed import build


class OwnPictures:
    """Pictures at a path in any layout that is read: a `protocol.SampleSource`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def samples(self, options: Mapping[str, Any], seed: int, resolution: int, multiple: int) -> PictureSet:
        """See `protocol.SampleSource`; `options` are those of `PictureOptions`."""
        entries, chosen = found_entries(self.path, build(PictureOptions, dict(options), "[data]"))
        check_captions(entries)
        return PictureSet(entries, chosen, seed, resolution, multiple)


def found_entries(path: Path, options: PictureOptions) -> tuple[list[Entry], PictureOptions]:
    """Returns the pictures at a path and those of regularisation, and the options of the set.

    Raises SfumatoError where nothing is, for an unknown layout, and for files that cannot be read.
    """
    entries = entries_at(path, options)
    if options.regularisation_folder:
        kept = replace(
            options, regularisation=True, weight=options.regularisation_weight, trigger="",
            default_caption=options.regularisation_caption,
        )  # fmt: skip
        entries += entries_at(Path(options.regularisation_folder), kept)
    return entries, options


def entries_at(path: Path, options: PictureOptions) -> list[Entry]:
    """Returns the pictures of one file or folder."""
    if not path.exists():
        raise SfumatoError(f"there is no {path}; give a folder of pictures with captions")
    return list(folder_entries(path, options, options.caption_column))
