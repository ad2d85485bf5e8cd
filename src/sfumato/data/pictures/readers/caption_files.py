"""Captions out of what holds them: plain text, JSON, rows of a table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from sfumato.data.pictures.options import PictureOptions, SubsetOptions
from sfumato.errors import SfumatoError, shortened

# Names of columns and keys, of which the first that is there counts.
CAPTION_NAMES = ("text", "caption", "captions", "prompt", "tags")
PICTURE_NAMES = ("file_name", "image", "image_path", "path", "file", "filename", "img")


def default_captions(options: PictureOptions) -> tuple[str, ...]:
    """Returns what stands for a caption that is missing."""
    return (options.default_caption,) if options.default_caption else ()


def from_text(text: str, lines: bool) -> tuple[str, ...]:
    """Returns the caption in a text, or with `lines` one a line; none if it is empty."""
    found = [line.strip() for line in text.splitlines() if line.strip()]
    return tuple(found) if lines else tuple(filter(None, [" ".join(found)]))


def from_file(text: str, ending: str, where: str, options: PictureOptions) -> tuple[str, ...]:
    """Returns the captions in the text of a caption file.

    In .json they are a string, a list of strings, or an object as in `from_record`. Raises SfumatoError for broken JSON
    and for an object without captions.
    """
    if ending != ".json":
        return from_text(text, options.caption_lines)
    value = parsed_json(text, where)
    return _of_record(value, where, options) if isinstance(value, dict) else _of_value(value, where, options)


def from_record(record: Mapping[str, Any], where: str, options: PictureOptions) -> tuple[str, ...]:
    """Returns the captions in a row, or the default one if the row has none: see `caption_column`.

    Raises SfumatoError if no such column is there, unless captions may be missing.
    """
    if not may_be_missing(options) or any(name in record for name in CAPTION_NAMES) or options.caption_column:
        return _of_record(record, where, options) or default_captions(options)
    return default_captions(options)


def may_be_missing(options: SubsetOptions) -> bool:
    """Returns whether a picture needs no caption of its own."""
    return bool(options.default_caption) or options.caption_missing == "allow"


def column_of(names: Iterable[str], chosen: str, usual: tuple[str, ...], option: str, where: str) -> str:
    """Returns the chosen one of the names, or without a choice the first of the usual ones.

    Raises SfumatoError if it is not there, and says which option chooses.
    """
    there = [str(name) for name in names]
    name = chosen or next((name for name in usual if name in there), "")
    if name not in there:
        wanted = repr(chosen) if chosen else f"any of {', '.join(usual)}"
        has = ", ".join(there) or "nothing"
        raise SfumatoError(f"{where} has {has}, but not {wanted}; name the right one as {option}")
    return name


def parsed_json(text: str, where: str) -> Any:
    """Returns the value of a JSON text. Raises SfumatoError where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SfumatoError(f"{where} is no valid JSON: {error}; correct it") from None


def _of_record(record: Mapping[str, Any], where: str, options: PictureOptions) -> tuple[str, ...]:
    """The captions in a record. A list of tags is one caption, and tags beside a caption follow it, as in kohya's
    metadata."""
    name = column_of(record, options.caption_column, CAPTION_NAMES, "caption_column", where)
    value, tags = record[name], record.get("tags") if name in ("caption", "tags") else None
    if isinstance(tags, list) and all(isinstance(tag, str) for tag in tags):
        tags = ", ".join(tags)
    if isinstance(tags, str) and (name == "tags" or isinstance(value, str)):
        value = ", ".join(filter(None, ["" if name == "tags" else value, tags]))
    return _of_value(value, where, options)


def _of_value(value: Any, where: str, options: PictureOptions) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        return from_text(value, options.caption_lines)
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return tuple(text for one in value for text in from_text(one, False))
    raise SfumatoError(f"{where}: the caption is {shortened(value)}; expected a text or a list of texts")
