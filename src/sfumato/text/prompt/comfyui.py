"""The prompt language of ComfyUI: round brackets weigh, and nothing else means anything.

`(words)` multiplies by 1.1, `(words:1.3)` replaces the weights around it by its own, `\\(` is a bracket. What is not
closed is text, and so is all that follows a bracket that closes nothing, until one that opens makes up for it.
"""

from __future__ import annotations

import math
import re

from sfumato.text.prompt.emphasis import Spans
from sfumato.text.prompt.tree import Adapter, Node, Prompt, Text
from sfumato.text.prompt.tree import Branch as _Branch
from sfumato.text.prompt.weights import Weighing

STEP = 1.1

_MARK = re.compile(r"\\[()]|[()]")
_EMBEDDING = re.compile(r"(?<!\S)embedding:([^\s,():]+)")
_MOST_UNCLOSED = 64
_LONGEST = 40  # characters of a weight


def parse(text: str) -> Prompt:
    """The tree of a prompt: one branch of words in which nothing changes; embeddings are named."""
    nodes: list[Node] = []
    place = 0
    for match in _EMBEDDING.finditer(text):
        nodes += [Text(text[place : match.start()]), Adapter("embedding", match[1])]
        place = match.end()
    return Prompt((_Branch(tuple(node for node in (*nodes, Text(text[place:])) if node != Text(""))),))


def read(text: str) -> Spans:
    """The weighted words of a text."""
    pieces = _groups(text)
    weighing = Weighing()
    for piece in pieces:
        if piece is None:
            weighing.open("(")
        elif isinstance(piece, tuple):
            weighing.close(*piece)
        else:
            weighing.words(piece)
    return weighing.spans()


def _groups(text: str) -> list[str | tuple[float, float | None] | None]:
    """Words, None where a group begins, and its factor and weight where it ends."""
    marks = [match for match in _MARK.finditer(text) if len(match[0]) == 1]
    ends = _ends([(match.start(), match[0]) for match in marks], text)
    found: list[str | tuple[float, float | None] | None] = []
    place = 0
    for match in marks:
        start = match.start()
        if start not in ends:
            continue  # a bracket of no group is text
        words = text[place:start]
        place = start + 1
        if match[0] == "(":
            found += [_plain(words), None]
            continue
        # The number after the last colon of the whole group counts; a group after it leaves none.
        words, colon, number = words.rpartition(":")
        weight = _number(number) if colon and ends[start] < start - len(number) - 2 else None
        if weight is None:
            words, number = words + colon + number, ""
        found += [_plain(words), (STEP, weight)]
    return [*found, _plain(text[place:])]


def _ends(marks: list[tuple[int, str]], text: str) -> dict[int, int]:
    """The places of brackets that form groups, each with the place of its group's beginning.

    What begins with a bracket that is never closed, and ends in a closing one, is a group by these two.
    """
    found: dict[int, int] = {}
    length = len(text)
    for _ in range(_MOST_UNCLOSED):
        inside, unclosed = _closed(marks)
        found |= inside
        if unclosed is None or not marks or marks[-1] != (length - 1, ")"):
            break
        found[unclosed] = found[length - 1] = unclosed
        marks = [(place, mark) for place, mark in marks[:-1] if place > unclosed]
        length -= 1
        colon = text.rfind(":", max(unclosed + 2, length - _LONGEST), length)
        if colon >= 0 and _number(text[colon + 1 : length]) is not None:
            length = colon
    return found


def _closed(marks: list[tuple[int, str]]) -> tuple[dict[int, int], int | None]:
    """The brackets of groups that are closed, and the place of the first bracket that is never."""
    level, opened, waiting, found = 0, list[int](), list[tuple[int, int]](), dict[int, int]()
    for place, mark in marks:
        if mark == "(":
            level += 1
            if level > 0 and (opened or level == 1):
                opened.append(place)
        else:
            level -= 1
            if opened:
                waiting.append((opened.pop(), place))
                if not opened:  # the outermost is closed, and with it all inside
                    for start, end in waiting:
                        found[start], found[end] = start, start
                    waiting = []
    return found, opened[0] if opened else None


def _number(text: str) -> float | None:
    """A weight as Python reads numbers, blanks around it included."""
    try:
        number = float(text) if len(text) <= _LONGEST else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _plain(text: str) -> str:
    return text.replace("\\(", "(").replace("\\)", ")")
