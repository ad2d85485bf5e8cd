"""Prompts with chance in them: `{a|b}` and `__wildcard__`, as the Dynamic Prompts extension writes them."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from sfumato.errors import SfumatoError
from sfumato.files import read_text
from sfumato.text.prompt.tree import Note

MAX_FILE = 16 << 20
MAX_DEPTH = 32  # choices within choices, files that name files
MAX_CHOSEN = 500  # options that one choice may draw
MAX_DRAWS = 2_000_000  # options that may be looked at for one prompt
MAX_TEXT = 100_000  # characters that a prompt may grow to
JOINT = ", "

_MARK = re.compile(r"\\.|__(?P<name>[^\s{}|_](?:[^\n{}|]{0,120}?[^\s{}|])??)__|[{}]", re.DOTALL)
# Marks of Dynamic Prompts that are not read, and what looks like a wildcard: two bounded patterns and a name.
_FURTHER = re.compile(
    r"\$\{[^{}]{0,200}\}|\{[@~!][^{}|]{0,200}\||(?<!\\)__(?P<name>[^_\n]{1,80}(?:_[^_\n]{1,80}){0,8})__"
    r"|(?:^|[ \t])(?P<comment># [^\n]*)",
    re.MULTILINE,
)
_SPLIT = re.compile(r"\\.|[{}\[\]|]", re.DOTALL)
_COUNT = re.compile(r"\s*(?P<low>[0-9]{1,4})?(?P<dash>-)?(?P<high>[0-9]{1,4})?\$\$(?:(?P<joint>[^|$]*)\$\$)?")
_WEIGHT = re.compile(r"\s*([0-9]+\.?[0-9]*|\.[0-9]+)::")
_COMMENT = re.compile(r"[ \t]+# ")
_NAME = re.compile(r"[\w*-][\w*. -]*")


@dataclass(frozen=True)
class Option:
    """One of several texts, and how likely it is beside the others."""

    text: str
    weight: float = 1.0

    @classmethod
    def of(cls, text: str) -> Option:
        """`2::text`, or a text of weight 1."""
        match = _WEIGHT.match(text)
        return cls(text) if match is None else cls(text[match.end() :], float(match[1]))


def expand(template: str, seed: int | str, folder: Path | None = None) -> str:
    """The prompt that a seed draws from a template, always the same.

    `{a|b}` is one of its options, `{2::a|b}` twice as often the first, `{2$$a|b|c}` two different ones with commas
    between, `{1-2$$ and $$a|b|c}` one or two joined by "and". `__name__` is a line of `name.txt` in `folder`, in a
    sub-folder for `__part/name__`; `*` stands for any letters, and for whole names in `**`. Lines may hold choices and
    further names; empty ones and those that begin with # are left out. A backslash makes text of what follows it.

    Braces without | and $$ are text. Raises SfumatoError for a file that is missing, outside the folder or unreadable,
    for names that include each other, and for a prompt that grows without end.
    """
    return _Draw(random.Random(f"prompt {seed}"), folder).text(template)


def expand_notes(text: str) -> Iterator[Note]:
    """Yields notes on parts of a text that may have been meant as choices and are drawn as they stand."""
    yield from unmatched(text)
    for match in _FURTHER.finditer(text):
        if match["comment"] is not None:
            start = match.start("comment")
            yield Note(start, match.end(), "a comment is drawn as words here; leave it out")
        elif match["name"] is not None:
            yield Note(*match.span(), "this names no wildcard file and is drawn as words; write __name__")
        else:
            yield Note(*match.span(), "variables and cyclic choices are not read here; these marks are drawn as words")


def unmatched(text: str) -> Iterator[Note]:
    """The braces that are text because none closes or opens them."""
    opened: list[int] = []
    for match in _MARK.finditer(text):
        if match[0] == "{":
            opened.append(match.start())
        elif match[0] == "}" and opened:
            opened.pop()
        elif match[0] == "}":
            yield Note(*match.span(), "'}' closes nothing; it is read as text")
    for start in opened:
        yield Note(start, start + 1, "'{' is never closed; it is read as text")


@dataclass
class _Draw:
    rng: random.Random
    folder: Path | None
    inside: tuple[str, ...] = ()  # names of files that are being read
    depth: int = 0
    grown: int = 0
    looked: int = 0

    def text(self, text: str) -> str:
        """The text with its choices made."""
        self.grown += len(text)
        if self.grown > MAX_TEXT:
            raise SfumatoError(f"the prompt grows beyond {MAX_TEXT} characters; shorten its choices or wildcard files")
        pieces, at = [], 0
        for start, end, name in _outermost(text):
            if name is not None and " " in name and not self._has(name):
                continue  # two marks with words between them
            pieces.append(text[at:start])
            pieces.append(self._choice(text[start + 1 : end - 1]) if name is None else self._line(name))
            at = end
        return "".join((*pieces, text[at:]))

    def _choice(self, body: str) -> str:
        """Returns what `{body}` becomes."""
        if self.depth >= MAX_DEPTH:
            raise SfumatoError(f"the prompt has choices within choices {MAX_DEPTH} deep; make it simpler")
        self.depth += 1
        try:
            count = _COUNT.match(body)
            rest = body if count is None else body[count.end() :]
            parts = _parts(rest)
            if count is None and len(parts) == 1:
                return "{" + self.text(body) + "}"
            options = [Option.of(part) for part in parts]
            name = _MARK.fullmatch(rest.strip())
            if len(parts) == 1 and name is not None and name["name"] is not None:  # so many lines of a file, none twice
                options = self._lines(name["name"])
            if count is None:
                return self.text(self._picked(options, 1)[0])
            least, most = _bounds(count, len(options))
            chosen = self._picked(options, least + int(self.rng.random() * (most - least + 1)))
            joint = JOINT if count["joint"] is None else count["joint"]
            return joint.join(self.text(option).strip() for option in chosen)
        finally:
            self.depth -= 1

    def _picked(self, options: list[Option], count: int) -> list[str]:
        """`count` different options by their weights."""
        if count > MAX_CHOSEN:
            raise SfumatoError(f"a choice draws {count} options at once; at most {MAX_CHOSEN} are drawn")
        self.looked += len(options) * max(1, count)
        if self.looked > MAX_DRAWS:
            raise SfumatoError(
                f"the choices of the prompt have more than {MAX_DRAWS:,} options; make its files smaller"
            )
        left, chosen = list(options), []
        for _ in range(count):
            ends = list(accumulate(option.weight for option in left))
            if ends[-1] <= 0:
                names = "|".join(option.text for option in left)
                raise SfumatoError(f"the choices {names!r} weigh nothing; give one of them a weight above 0")
            at = self.rng.random() * ends[-1]
            chosen.append(left.pop(next(i for i, end in enumerate(ends) if at < end)).text)
        return chosen

    def _line(self, name: str) -> str:
        """Returns what `__name__` becomes."""
        if name in self.inside:
            circle = " > ".join((*self.inside[self.inside.index(name) :], name))
            raise SfumatoError(f"wildcard files name each other without end: {circle}; break the circle")
        (line,) = self._picked(self._lines(name), 1)
        outer, self.inside = self.inside, (*self.inside, name)
        if len(self.inside) > MAX_DEPTH:
            raise SfumatoError(f"wildcard files name each other {MAX_DEPTH} deep; make them simpler")
        try:
            return self.text(line)
        finally:
            self.inside = outer

    def _has(self, name: str) -> bool:
        try:
            return bool(wildcard_files(name, self.folder))
        except SfumatoError:
            return False

    def _lines(self, name: str) -> list[Option]:
        found = [line for path in wildcard_files(name, self.folder) for line in _read(path)]
        if not found:
            raise SfumatoError(f"the wildcard __{name}__ names files without lines; write one option a line")
        return [Option.of(line) for line in found]


def wildcard_files(name: str, folder: Path | None) -> list[Path]:
    """The files that `__name__` stands for, one unless it holds a *. Raises SfumatoError where there are none.

    Nothing outside of the folder is ever read, whatever the name and wherever links lead.
    """
    if folder is None:
        known = f"the prompt names the wildcard __{name}__, but no folder with wildcard files"
        raise SfumatoError(f"{known} is given; give one, or write \\__{name}__ to draw the words")
    parts = name.split("/")
    if any(not _NAME.fullmatch(part) or ".." in part for part in parts):
        raise SfumatoError(f"{name!r} cannot name a wildcard file; write __name__ or __folder/name__")
    root = folder.resolve()
    if not root.is_dir():
        raise SfumatoError(f"{folder} is no folder with wildcard files; give another, or write \\__{name}__")
    pattern = "/".join(parts) + ("/*.txt" if parts[-1] == "**" else ".txt")
    try:
        found = sorted(root.glob(pattern)) if "*" in name else [root / pattern]
        inside = [path for path in found if path.resolve().is_relative_to(root) and path.is_file()]
    except (OSError, ValueError) as error:
        raise SfumatoError(f"cannot look for the wildcard __{name}__ in {folder}: {error}") from error
    if not inside:
        raise SfumatoError(f"no {pattern} in {folder} for the wildcard __{name}__; add it, or write \\__{name}__")
    return inside


def _read(path: Path) -> list[str]:
    """The options in a file. Raises SfumatoError."""
    lines = [line.strip() for line in read_text(path, MAX_FILE).splitlines()]
    return [words for line in lines if not line.startswith("#") and (words := _COMMENT.split(line, maxsplit=1)[0])]


def _outermost(text: str) -> Iterator[tuple[int, int, str | None]]:
    """Where choices that are closed, and names outside of them, begin and end."""
    opened: list[int] = []
    found: list[tuple[int, int, str | None]] = []
    for match in _MARK.finditer(text):
        if match["name"] is not None:
            found.append((*match.span(), match["name"]))
        elif match[0] == "{":
            opened.append(match.start())
        elif match[0] == "}" and opened:
            start = opened.pop()
            while found and found[-1][0] > start:
                found.pop()
            found.append((start, match.end(), None))
    yield from found


def _parts(body: str) -> list[str]:
    """A text cut at each | that is in no brackets."""
    parts, at, depth = [], 0, 0
    for match in _SPLIT.finditer(body):
        if match[0] in "{[":
            depth += 1
        elif match[0] in "}]":
            depth = max(0, depth - 1)
        elif match[0] == "|" and depth == 0:
            parts.append(body[at : match.start()])
            at = match.end()
    return [*parts, body[at:]]


def _bounds(count: re.Match[str], options: int) -> tuple[int, int]:
    """The least and the most options that are to be drawn."""
    low, high = (None if count[name] is None else min(int(count[name]), options) for name in ("low", "high"))
    if count["dash"] is None:
        only = 1 if low is None else low
        return only, only
    least = min(1, options) if low is None else low
    return least, max(least, options if high is None else high)
