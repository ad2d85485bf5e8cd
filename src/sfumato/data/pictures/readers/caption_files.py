"""Captions out of the files and records that hold them: plain text, JSON, rows of a table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sfumato.errors import SfumatoError, shortened

CAPTION_NAMES = ("text", "caption", "captions", "prompt", "tags")  # of columns and keys, the first that is there counts
PICTURE_NAMES = ("file_name", "image", "image_path", "path", "file", "filename", "img")


def from_text(text: str, lines: bool) -> tuple[str, ...]:
    """Returns the caption in a text, or with `lines` one a line; none if it is empty."""
    found = [line.strip() for line in text.splitlines() if line.strip()]
    return tuple(found) if lines else tuple(filter(None, [" ".join(found)]))


def from_json(text: str, where: str, lines: bool, column: str) -> tuple[str, ...]:
    """Returns the captions in a JSON text: a string, a list of strings, or an object with one of CAPTION_NAMES.

    Raises SfumatoError for broken JSON and for an object without captions.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SfumatoError(f"{where} is no valid JSON: {error}; correct it") from None
    return from_record(value, where, lines, column) if isinstance(value, dict) else from_value(value, where, lines)


def from_record(record: Mapping[str, Any], where: str, lines: bool, column: str) -> tuple[str, ...]:
    """Returns the captions in a row: what `column` holds, or else the first of CAPTION_NAMES that is there.

    A list of tags, and tags beside a caption, are one caption, as in kohya's metadata.
    """
    name = column or next((name for name in CAPTION_NAMES if name in record), None)
    if name is None or name not in record:
        wanted = f"the column {column!r}" if column else f"one of {', '.join(CAPTION_NAMES)}"
        message = f"{where} has {', '.join(map(str, record)) or 'nothing'}, but not {wanted}; name its caption_column"
        raise SfumatoError(message)
    value = record[name]
    tags = record.get("tags") if name in ("caption", "tags") and not column else None
    if tags is not None and isinstance(value, str | list):
        text = tags if isinstance(tags, str) else ", ".join(map(str, tags))
        value = text if name == "tags" else ", ".join(filter(None, [value if isinstance(value, str) else "", text]))
    return from_value(value, where, lines)


def from_value(value: Any, where: str, lines: bool) -> tuple[str, ...]:
    """Returns the captions in a string or a list of strings; none for null. Raises SfumatoError for anything else."""
    if value is None:
        return ()
    if isinstance(value, str):
        return from_text(value, lines)
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return tuple(text for one in value for text in from_text(one, False))
    raise SfumatoError(f"{where}: the caption is {shortened(value)}; expected a text or a list of texts")
