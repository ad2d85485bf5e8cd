"""Chooses the reader for a file or folder by what lies there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sfumato.data.pictures.entry import Entry, File
from sfumato.data.pictures.options import PictureOptions
from sfumato.data.pictures.picture_set import PictureSet, check_captions
from sfumato.data.pictures.readers.arrow import SPLITS, STATE, parquet_entries, saved_entries
from sfumato.data.pictures.readers.folder import folder_entries
from sfumato.data.pictures.readers.kohya import read_kohya
from sfumato.data.pictures.readers.table import TABLES, table_entries
from sfumato.data.pictures.readers.webdataset import shard_entries
from sfumato.errors import SfumatoError
from sfumato.typed import build

METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")  # of imagefolders (Hugging Face)
PARQUET, SHARD, CONFIG = ".parquet", ".tar", ".toml"


@dataclass(frozen=True)
class OwnPictures:
    """Pictures at a path in any layout that is read: a `protocol.SampleSource`."""

    path: Path

    def samples(self, options: Mapping[str, Any], seed: int, resolution: int, multiple: int) -> PictureSet:
        """See `protocol.SampleSource`; `options` are those of `PictureOptions`."""
        entries, chosen = all_entries(self.path, build(PictureOptions, dict(options), "[data]"))
        check_captions(entries)
        return PictureSet(entries, chosen, seed, resolution, multiple)


def all_entries(path: Path, options: PictureOptions) -> tuple[list[Entry], PictureOptions]:
    """Returns the pictures at a path and those of regularisation, and the options of the set.

    Raises SfumatoError where nothing is, for an unknown layout, and for files that cannot be read.
    """
    if path.suffix.lower() == CONFIG and path.is_file():
        config = read_kohya(path, options)
        entries, options = config.entries, config.options
    else:
        entries = entries_at(path, options)
    if options.regularisation_folder:
        kept = replace(
            options, regularisation=True, weight=options.regularisation_weight, trigger="",
            default_caption=options.regularisation_caption,
        )  # fmt: skip
        entries = entries + entries_at(Path(options.regularisation_folder), kept)
    return entries, options


def entries_at(path: Path, options: PictureOptions) -> list[Entry]:
    """Returns the pictures of one file or folder, whatever its layout."""
    kind = path.suffix.lower()
    if path.is_dir():
        return _of_folder(path, options)
    if not path.is_file():
        raise SfumatoError(f"there is no {path}; give a folder of pictures with captions")
    if kind in TABLES:
        return table_entries(path, options)
    if kind == PARQUET:
        return list(parquet_entries(path, options))
    if kind == SHARD:
        return list(shard_entries(path, options))
    known = ", ".join((*TABLES, PARQUET, SHARD, CONFIG))
    raise SfumatoError(f"{path} is no data set that is read; give a folder, or a file that ends with one of {known}")


def _of_folder(folder: Path, options: PictureOptions) -> list[Entry]:
    if any((folder / name).is_file() for name in (STATE, SPLITS)):
        return list(saved_entries(folder, options))
    table = next((folder / name for name in METADATA if (folder / name).is_file()), None)
    if table is not None:
        listed = entries_at(table, options)
        known = {entry.source.path.resolve() for entry in listed if isinstance(entry.source, File)}
        rest = folder_entries(folder, options)
        return listed + [one for one in rest if isinstance(one.source, File) and one.source.path.resolve() not in known]
    found = list(folder_entries(folder, options))
    parts = [] if found else _parts(folder, options)
    entries = found + [entry for part in parts for entry in entries_at(part, options)]
    if not entries:
        raise SfumatoError(
            f"{folder} holds no pictures that are read; give a folder of PNG, JPEG, WebP, GIF or BMP files"
        )
    return entries


def _parts(folder: Path, options: PictureOptions) -> list[Path]:
    """The shards or parquet files of a folder; of those that say a split, the ones of the split that is asked for."""
    for ending in (SHARD, PARQUET):
        found = sorted(folder.rglob(f"*{ending}"))
        if found:
            return [path for path in found if path.name.startswith(f"{options.split}-")] or found
    return []
