"""Reads tables that name picture files: JSON lines, CSV, and JSON as kohya's scripts write it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sfumato.data.pictures.entry import ENDINGS, Entry, File, named
from sfumato.data.pictures.options import PictureOptions
from sfumato.data.pictures.readers.caption_files import PICTURE_NAMES, column_of, from_record, parsed_json
from sfumato.data.pictures.readers.folder import mask_beside
from sfumato.errors import SfumatoError, shortened
from sfumato.files import MAX_FILE, read_text

TABLES = (".jsonl", ".csv", ".tsv", ".json")
Row = tuple[str, Mapping[str, Any]]  # where it stands, for messages, and its values by column


def table_entries(path: Path, options: PictureOptions) -> list[Entry]:
    """Returns an entry a row; files of pictures are looked for from the table's folder.

    Raises SfumatoError for a broken table, for one without a column of pictures or of captions, and for pictures that
    are not there.
    """
    entries, absent = [], []
    for where, row in _rows(path):
        name = _text(row, options.picture_column, where)
        picture = _found(path.parent / name)
        if picture is None:
            absent.append(name)
            continue
        captions = from_record(row, where, options)
        mask = mask_beside(picture) if options.masks == "beside" else None
        entries.append(Entry(File(picture), captions, options, File(mask) if mask else None))
    if absent:
        raise SfumatoError(f"{path} names {len(absent)} pictures that are not there: {named(absent)}; correct it")
    return entries


def _text(row: Mapping[str, Any], chosen: str, where: str) -> str:
    value = row[column_of(row, chosen, PICTURE_NAMES, "picture_column", where)]
    if not isinstance(value, str) or not value:
        raise SfumatoError(f"{where}: the picture is {shortened(value)}; expected the name of a file")
    return value


def _found(path: Path) -> Path | None:
    """The file of this name, or, as kohya's scripts leave the ending out, one that has the name before its ending."""
    names = (path, *(path.with_name(path.name + ending) for ending in ENDINGS))
    return next((one for one in names if one.is_file()), None)


def _rows(path: Path) -> Iterator[Row]:
    text = read_text(path, MAX_FILE)
    kind = path.suffix.lower()
    if kind == ".jsonl":
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                yield (
                    f"{path}, line {number}",
                    _object(parsed_json(line, f"{path}, line {number}"), f"line {number}", path),
                )
    elif kind == ".json":
        yield from _of_json(parsed_json(text, str(path)), path)
    else:
        yield from _of_csv(text, "\t" if kind == ".tsv" else ",", path)


def _of_csv(text: str, delimiter: str, path: Path) -> Iterator[Row]:
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if None in row:
                columns = len(reader.fieldnames or ())
                raise SfumatoError(f"{where} has more than {columns} columns; put quotes around texts with commas")
            yield where, row
    except csv.Error as error:
        raise SfumatoError(f"{path}, line {reader.line_num}: {error}; correct the table") from None


def _of_json(value: Any, path: Path) -> Iterator[Row]:
    """Rows of a list of objects, or of an object that has an object for each picture's name."""
    if isinstance(value, dict):
        for name, row in value.items():
            yield f"{path}, {name}", {PICTURE_NAMES[0]: name} | _object(row, name, path)
    elif isinstance(value, list):
        for number, row in enumerate(value, 1):
            yield f"{path}, entry {number}", _object(row, f"entry {number}", path)
    else:
        raise SfumatoError(f"{path} holds {shortened(value)}; expected a list of objects, or one that names pictures")


def _object(value: Any, what: str, path: Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SfumatoError(f"{path}, {what} is {shortened(value)}; expected an object with a picture and its caption")
    return value
