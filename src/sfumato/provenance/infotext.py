"""The community's text form of a picture's settings, as web UIs write and read it ("infotext", "parameters").

    a red heart
    Negative prompt: blurry
    Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512

The first lines are the prompt; the negative prompt has a mark and may run over several lines; the last line holds the
fields, with values in JSON quotes where they contain one of the marks of the syntax. Extensions of web UIs write
further lines after that one, and values that are JSON themselves.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

NEGATIVE = "Negative prompt:"
MAX_TEXT = 200_000  # characters; of longer texts no line is looked at for fields
LONGEST_KEY = 60

_NAME = rf"\w[\w \-/]{{0,{LONGEST_KEY - 2}}}[\w\-/]"
_KEY = re.compile(_NAME)
# The key is bounded, and a quoted value ends at the next quote: the time to read a text grows with its length only.
_FIELD = re.compile(rf'\s?({_NAME}):[ \t]*(?:("(?:\\.|[^\\"])*")[ \t]*(?:,|$))?', re.DOTALL)
# A number with a decimal comma, before the comma that ends its field.
_DECIMAL_COMMA = re.compile(r"(-?\d{1,6}),(\d{1,6})(?:,[ \t]|$)")
# The fields, and the negative prompt, where the lines of a text were joined.
_JOINED = re.compile(
    r"(?<![ \t,])[ \t]+(?=Steps:[ \t]{0,9}\d{1,5},[ \t]{0,9}(?:Sampler|Schedule type|CFG scale|Seed|Size):)"
)
_JOINED_NEGATIVE = re.compile(rf"(?<![ \t])[ \t]+(?={NEGATIVE})")
_STEPS = re.compile(r"(?:^|,)\s?Steps:[ \t]*\d")
_NEGATIVE = re.compile(rf"^[ \t]*{NEGATIVE}", re.MULTILINE)
_NEGATIVE_AGAIN = re.compile(rf"(?<=\n){NEGATIVE} ?")
# Lines that the Dynamic Prompts extension adds after the fields.
_AFTER = re.compile(r"(Template|Negative Template):[ \t]*(.*)", re.DOTALL)
# Readers take the last line for fields only if it has at least so many; otherwise it is part of the prompt.
_LEAST_FIELDS = 3
_MOST_JSON = 50  # values of a line that are tried as JSON


def write(prompt: str, negative: str, fields: Mapping[str, object]) -> str:
    """The infotext of a picture. Fields whose value is None are left out; names and their order are the caller's.

    Readers expect at least three fields, among them `Steps`, `Sampler`, `CFG scale`, `Seed`, `Size`. The syntax cannot
    hold a prompt with a line that begins like a negative prompt, nor white space around a prompt. Raises ValueError for
    a field name that no reader would find: 2 to 60 letters, digits and `_`, with blanks, `-` and `/` inside.
    """
    bad = next((name for name in fields if not _KEY.fullmatch(name)), None)
    if bad is not None:
        raise ValueError(f"{bad!r} cannot be the name of an infotext field")
    settings = ", ".join(f"{name}: {_quote(_text(value))}" for name, value in fields.items() if value is not None)
    lines = [prompt.strip(), f"{NEGATIVE} {negative.strip()}" if negative.strip() else "", settings]
    # An empty prompt keeps its line, or readers would take the next one for it.
    return "\n".join([lines[0], *filter(None, lines[1:])])


def parse(text: str) -> tuple[str, str, dict[str, str]]:
    """Split an infotext into prompt, negative prompt and fields. Any text will do; without fields it is a prompt.

    The fields are those of the last line with `Steps:` and at least two more, or else those of the last line; or of
    the last lines, where each is one field. What follows that line is the field `After the settings`, but for
    templates, which are fields by their own names; another picture's settings before it are the field
    `Before the prompt`.
    """
    text = text.replace("\r\n", "\n")
    lines = text.rstrip().split("\n")
    place, fields = _settings_line(lines) if len(text) <= MAX_TEXT else (len(lines), {})
    if len(text) <= MAX_TEXT and not (fields and lines[place].lstrip().startswith("Steps:")):
        lines, place, fields = _rejoined(lines, place, fields)
    for line in "\n".join(lines[place + 1 :]).split("\n") if fields else ():
        known = _AFTER.fullmatch(line.strip())
        if known is not None:
            fields.setdefault(known[1], _unquote(known[2]))
        elif line.strip():
            fields["After the settings"] = " ".join(filter(None, (fields.get("After the settings"), line.strip())))
    start = _after_another(lines, place) if fields else 0
    if start:
        fields["Before the prompt"] = "the settings of another picture"
    prompts = "\n".join(lines[start:place]) if fields else text
    mark = _NEGATIVE.search(prompts)
    if mark is None:
        return prompts.strip(), "", fields
    return prompts[: mark.start()].strip(), _NEGATIVE_AGAIN.sub("", prompts[mark.end() :]).strip(), fields


def _after_another(lines: list[str], place: int) -> int:
    """Where a description begins whose fields are at `place`, if another one stands before it; else 0."""
    marked = (one for one in reversed(range(place)) if lines[one].startswith("Steps:"))
    return next((one + 1 for one in marked if len(dict(_fields(lines[one]))) >= _LEAST_FIELDS), 0)


def _rejoined(lines: list[str], place: int, fields: dict[str, str]) -> tuple[list[str], int, dict[str, str]]:
    """The same of a text whose lines were joined to one, or whose fields have a line each; else what was given."""
    apart = _JOINED.sub("\n", "\n".join(lines)).split("\n")
    if len(apart) > len(lines):
        found, _ = _settings_line(apart)
        if found < len(apart) and apart[found].startswith("Steps:"):
            head = "\n".join(apart[:found])
            head = head if _NEGATIVE.search(head) else _JOINED_NEGATIVE.sub("\n", head, count=1)
            apart = [*head.split("\n"), *apart[found:]]
            return apart, *_settings_line(apart)
    first = next((one for one, line in enumerate(lines) if line.startswith("Steps:")), len(lines))
    listed = [line.strip().removesuffix(",").partition(":") for line in lines[first:]]
    if len(listed) >= _LEAST_FIELDS and all(colon and _KEY.fullmatch(name) for name, colon, _ in listed):
        return lines[: first + 1], first, {name: _unquote(value.strip()) for name, _, value in listed}
    return lines, place, fields


def _settings_line(lines: list[str]) -> tuple[int, dict[str, str]]:
    """Which line holds the fields, and these; none where no line has enough."""
    marked = (place for place in reversed(range(len(lines))) if _STEPS.search(lines[place]))
    for place in (*marked, len(lines) - 1):
        fields = dict(_fields(lines[place]))
        if len(fields) >= _LEAST_FIELDS:
            return place, fields
    return len(lines), {}


def _fields(line: str) -> Iterator[tuple[str, str]]:
    """Names and values in a line of fields."""
    place, tried = 0, 0
    while match := _FIELD.search(line, place):
        name, quoted, place = match[1], match[2], match.end()
        if quoted is not None:
            yield name, _unquote(quoted)
            continue
        end = None
        if line[place : place + 1] in ("[", "{") and tried < _MOST_JSON:
            tried, end = tried + 1, _end_of_json(line, place)
        if (number := _DECIMAL_COMMA.match(line, place)) is not None:
            yield name, f"{number[1]}.{number[2]}"
            place = number.end()
            continue
        if end is None:
            comma = line.find(",", place)
            end = len(line) if comma < 0 else comma
        yield name, line[place:end].strip()
        place = end + 1


def _end_of_json(line: str, start: int) -> int | None:
    """Where an object or a list that stands in a line ends, if it is one and a comma or nothing follows."""
    try:
        _, end = json.JSONDecoder().raw_decode(line, start)
    except (ValueError, RecursionError):
        return None
    rest = re.compile(r"[ \t]*(?:,|$)").match(line, end)
    return end if rest is not None else None


def _text(value: object) -> str:
    """Whole floats are written without a fraction, as the web UIs do."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _quote(value: str) -> str:
    needed = re.search(r'[,:\n\r]|^["\s]|\s$', value)
    return json.dumps(value, ensure_ascii=False) if needed else value


def _unquote(value: str) -> str:
    try:
        return str(json.loads(value)) if value.startswith('"') else value.rstrip()
    except ValueError:
        return value
