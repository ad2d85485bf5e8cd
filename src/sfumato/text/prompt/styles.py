"""Styles: prompts with a name, in the `styles.csv` of AUTOMATIC1111's web UI."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from sfumato.errors import SfumatoError
from sfumato.files import read_text

MAX_FILE = 16 << 20
PLACE = "{prompt}"


@dataclass(frozen=True)
class Style:
    """What a name adds to a prompt and to a negative prompt."""

    prompt: str = ""
    negative: str = ""


def read_styles(path: Path) -> dict[str, Style]:
    """The styles of a file with columns `name`, `prompt` (or `text`) and `negative_prompt`. Raises SfumatoError."""
    if not path.exists():
        raise SfumatoError(f"no styles file at {path}; give one in the form of A1111's styles.csv")
    try:
        reader = csv.DictReader(io.StringIO(read_text(path, MAX_FILE), newline=""), skipinitialspace=True)
        rows = list(reader)
    except csv.Error as error:
        raise SfumatoError(f"cannot read the styles file {path}: {error}") from error
    if "name" not in (reader.fieldnames or ()):
        raise SfumatoError(f"{path} is no styles file; its first line must be name,prompt,negative_prompt")
    named = ((row["name"], row.get("prompt") or row.get("text"), row.get("negative_prompt")) for row in rows)
    return {name.strip(): Style(prompt or "", negative or "") for name, prompt, negative in named if name}


def apply_styles(prompt: str, negative: str, styles: Iterable[Style]) -> tuple[str, str]:
    """Both prompts with each style in turn: put where it says {prompt}, else added after a comma."""
    for style in styles:
        prompt, negative = _with(prompt, style.prompt), _with(negative, style.negative)
    return prompt, negative


def find_styles(names: Iterable[str], path: Path) -> list[Style]:
    """The styles of these names. Raises SfumatoError for one that the file lacks."""
    known = read_styles(path)
    missing = next((name for name in names if name not in known), None)
    if missing is not None:
        near = get_close_matches(missing, known, 1)
        guess = f"did you mean {near[0]!r}? " if near else ""
        raise SfumatoError(f"no style {missing!r} in {path}; {guess}it has {', '.join(known) or 'none'}")
    return [known[name] for name in names]


def _with(prompt: str, style: str) -> str:
    if PLACE in style:
        return style.replace(PLACE, prompt)
    return ", ".join(text for text in (prompt.strip(), style.strip()) if text)
