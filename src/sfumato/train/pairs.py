"""Sets of pictures that belong together: each picture of one has a partner of its name and size in the other."""

from __future__ import annotations

from pathlib import Path

from sfumato.data.pictures.picture_set import PictureSet
from sfumato.data.pictures.protocol import CaptionedPictures
from sfumato.errors import SfumatoError


def check_pairs(first: CaptionedPictures, second: CaptionedPictures, folder: Path) -> None:
    """Raises SfumatoError unless both sets have pictures of the same names and sizes; `folder` is the second's."""
    names, others = _names(first), _names(second)
    if names != others:
        odd = sorted(set(names) ^ set(others)) or names
        raise SfumatoError(
            f"{folder} has not the same pictures as --data ({odd[0]} ...); give each pair one name and one size"
        )


def _names(pictures: CaptionedPictures) -> list[str]:
    """The names of a set's pictures with their sizes. Raises SfumatoError for a set without names."""
    if not isinstance(pictures, PictureSet):
        raise SfumatoError("pairs are files of one name in two folders; give --data a folder of pictures")
    sizes = zip(pictures.entries, pictures.originals, strict=True)
    return [f"{Path(entry.source.name).stem} {width}x{height}" for entry, (width, height) in sizes]
