"""The community's text form of a picture's settings, as web UIs write and read it ("infotext", "parameters").

    a red heart
    Negative prompt: blurry
    Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512

The first lines are the prompt; the negative prompt has a mark and may run over several lines; the last line holds the
fields, with values in JSON quotes where they contain one of the marks of the syntax.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

NEGATIVE = "Negative prompt:"

_KEY = re.compile(r"\w[\w \-/]*[\w\-/]")
_FIELD = re.compile(rf'\s*({_KEY.pattern}):\s*("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')
# Readers take the last line for fields only if it has at least so many; otherwise it is part of the prompt.
_LEAST_FIELDS = 3


def write(prompt: str, negative: str, fields: Mapping[str, object]) -> str:
    """The infotext of a picture. Fields whose value is None are left out; names and their order are the caller's.

    Readers expect at least three fields, among them `Steps`, `Sampler`, `CFG scale`, `Seed`, `Size`. The syntax cannot
    hold a prompt with a line that begins like a negative prompt, nor white space around a prompt. Raises ValueError for
    a field name that no reader would find: two or more letters, digits and `_`, with blanks, `-` and `/` inside.
    """
    bad = next((name for name in fields if not _KEY.fullmatch(name)), None)
    if bad is not None:
        raise ValueError(f"{bad!r} cannot be the name of an infotext field")
    settings = ", ".join(f"{name}: {_quote(_text(value))}" for name, value in fields.items() if value is not None)
    lines = [prompt.strip(), f"{NEGATIVE} {negative.strip()}" if negative.strip() else "", settings]
    # An empty prompt keeps its line, or readers would take the next one for it.
    return "\n".join([lines[0], *filter(None, lines[1:])])


def parse(text: str) -> tuple[str, str, dict[str, str]]:
    """Split an infotext into prompt, negative prompt and fields. Any text will do; without fields it is a prompt."""
    prompts, _, last = text.rstrip().rpartition("\n")
    fields = {name: _unquote(value) for name, value in _FIELD.findall(last)}
    if len(fields) < _LEAST_FIELDS:
        prompts, fields = text, {}
    prompt, _, negative = f"\n{prompts}".partition(f"\n{NEGATIVE}")
    return prompt.strip(), negative.strip(), fields


def _text(value: object) -> str:
    """Whole floats are written without a fraction, as the web UIs do."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _quote(value: str) -> str:
    needed = re.search(r'[,:\n\r]|^["\s]|\s$', value)
    return json.dumps(value, ensure_ascii=False) if needed else value


def _unquote(value: str) -> str:
    try:
        return json.loads(value) if value.startswith('"') else value.rstrip()
    except ValueError:
        return value
