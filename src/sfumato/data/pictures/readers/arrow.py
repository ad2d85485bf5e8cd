"""Reads parquet files, and data sets that the library `datasets` saved to disk. Both need pyarrow."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

from sfumato.data.pictures.entry import Cell, Entry, File, Source
from sfumato.data.pictures.options import PictureOptions
from sfumato.data.pictures.readers.caption_files import (
    CAPTION_NAMES,
    PICTURE_NAMES,
    column_of,
    from_record,
    may_be_missing,
    parsed_json,
)
from sfumato.errors import SfumatoError
from sfumato.files import read_text, short_path

STATE, SPLITS = "state.json", "dataset_dict.json"  # of a saved data set, and of one with several splits
Fetch = Callable[[int], Any]  # the number of a row -> what its column of pictures holds


def parquet_entries(path: Path, options: PictureOptions) -> Iterator[Entry]:
    """Yields an entry a row of a parquet file; pictures are read when they are asked for.

    Raises SfumatoError if pyarrow is missing, for a broken file, and for one without pictures or captions.
    """
    parquet = _library("pyarrow.parquet")
    try:
        file = parquet.ParquetFile(path)
        column, others = _columns(file.schema_arrow.names, options, path)
        rows = file.read(columns=others).to_pylist() if others else [{}] * file.metadata.num_rows
    except Exception as error:
        raise _broken(path, error) from None
    starts = [0]
    for group in range(file.num_row_groups):
        starts.append(starts[-1] + file.metadata.row_group(group).num_rows)
    values = lru_cache(maxsize=1)(lambda group: file.read_row_group(group, columns=[column]).column(0))

    def fetch(row: int) -> Any:
        group = next(k for k in range(len(starts) - 1) if row < starts[k + 1])
        return values(group)[row - starts[group]].as_py()

    yield from _entries(path, rows, fetch, options)


def saved_entries(folder: Path, options: PictureOptions) -> Iterator[Entry]:
    """Yields an entry a row of a data set that `datasets` saved; of several splits the option `split` is read.

    Raises SfumatoError if pyarrow is missing, for an unknown split, for a broken set, and for one of which only some
    rows were chosen.
    """
    library = _library("pyarrow")
    ipc = _library("pyarrow.ipc")
    if (folder / SPLITS).is_file():
        splits = _json(folder / SPLITS).get("splits", [])
        if options.split not in splits:
            raise SfumatoError(f"{folder} has no split {options.split!r}; set split to one of {', '.join(splits)}")
        folder = folder / options.split
    state = _json(folder / STATE)
    if state.get("_indices_files"):
        raise SfumatoError(f"{folder} holds a choice of rows; call flatten_indices() before it is saved")
    for part in state.get("_data_files", []):
        path = folder / str(part.get("filename"))
        try:
            table = ipc.open_stream(library.memory_map(str(path))).read_all()
            column, others = _columns(table.column_names, options, path)
            rows = table.select(others).to_pylist() if others else [{}] * table.num_rows
        except Exception as error:
            raise _broken(path, error) from None
        yield from _entries(path, rows, partial(_value, table.column(column)), options)


def _value(column: Any, row: int) -> Any:
    return column[row].as_py()


def _entries(path: Path, rows: Sequence[dict[str, Any]], fetch: Fetch, options: PictureOptions) -> Iterator[Entry]:
    for number, row in enumerate(rows):
        where = f"{short_path(path)}, row {number + 1}"
        picture = Cell(where, partial(_bytes, path, where, fetch, number))
        yield Entry(picture, from_record(row, where, options), options)


def _columns(names: Sequence[str], options: PictureOptions, path: Path) -> tuple[str, list[str]]:
    """The column of pictures, and those of captions."""
    where = short_path(path)
    picture = column_of(names, options.picture_column, PICTURE_NAMES, "picture_column", where)
    if options.caption_column or not may_be_missing(options):
        column_of(names, options.caption_column, CAPTION_NAMES, "caption_column", where)
    wanted = (options.caption_column,) if options.caption_column else CAPTION_NAMES
    return picture, [name for name in names if name in wanted]


def _bytes(path: Path, where: str, fetch: Fetch, number: int) -> bytes:
    """The picture in a cell: its bytes, or the name of its file, or both in a record as `datasets` writes it."""
    value = fetch(number)
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return value
    if isinstance(value, str) and value:
        source: Source = File(path.parent / value)
        return source.read()
    kind = type(value).__name__
    raise SfumatoError(f"{where}: the picture is {kind}; expected the bytes of a file, or its name; see picture_column")


def _json(path: Path) -> dict[str, Any]:
    value = parsed_json(read_text(path), str(path))
    return value if isinstance(value, dict) else {}


def _library(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise SfumatoError("this data set needs pyarrow; pip install 'sfumato[parquet]'") from None


def _broken(path: Path, error: Exception) -> SfumatoError:
    if isinstance(error, SfumatoError):
        return error
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return SfumatoError(f"cannot read {short_path(path)}: {reason}; it seems to be damaged, fetch it again")
