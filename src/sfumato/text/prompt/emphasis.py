"""Weights of the words of a prompt: `(word)`, `(word:1.3)`, `[word]`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, get_args

from sfumato.text.prompt.tree import CLOSING, NUMBER, Note, within

Emphasis = Literal["a1111", "plain", "comfy", "none"]
"""What the weights of words do to their encodings, see `text.encode.weigh`."""

EMPHASES: tuple[Emphasis, ...] = get_args(Emphasis)
STEP = 1.1  # what a pair of brackets multiplies or divides by


@dataclass(frozen=True)
class Span:
    """Words with their weight."""

    text: str
    weight: float = 1.0


@dataclass(frozen=True)
class Break:
    """`BREAK`: what follows begins a window of its own."""


Spans = tuple[Span | Break, ...]

MAX_DEPTH = 64  # brackets of a kind within each other; those beyond are text

_WORDS = r"|(?P<mark>[()\[\]])|[^\\()\[\]:]+|:"
_PIECE = re.compile(rf"\\(?P<escaped>.)?|:\s*(?P<weight>[+-]?[.0-9]+)\s*\){_WORDS}", re.DOTALL)
_PIECE_WITHOUT_BLANKS = re.compile(rf"\\(?P<escaped>.)?|:(?P<weight>[+-]?[.0-9]+)\){_WORDS}", re.DOTALL)
_BREAK = re.compile(r"\s*\bBREAK\b\s*")
_SPACED = re.compile(r"\s*[+-]?[.0-9]+\s*\)")


def read(text: str, blanks: bool = True) -> tuple[Spans, tuple[Note, ...]]:
    """The weighted words of a text, and what is remarkable about its brackets.

    The rules are AUTOMATIC1111's: round brackets multiply by 1.1 or by the number given, square ones divide by 1.1,
    each kind is matched on its own, what is not closed acts to the end, what closes nothing is text, and a backslash
    makes text of what follows it. `blanks` may stand around a weight, as newer versions have it.
    """
    pieces: list[tuple[str, float] | None] = []  # None is a BREAK
    opened: dict[str, list[tuple[int, int]]] = {"(": [], "[": []}  # places in pieces and in text
    notes: list[Note] = []

    def weigh(start: int, factor: float) -> None:
        pieces[start:] = [piece and (piece[0], piece[1] * factor) for piece in pieces[start:]]

    def close(mark: str, factor: float) -> bool:
        if not opened[mark]:
            return False
        weigh(opened[mark].pop()[0], factor)
        return True

    for match in (_PIECE if blanks else _PIECE_WITHOUT_BLANKS).finditer(text):
        start, end = match.span()
        piece, number = match[0], match["weight"]
        if piece[0] == "\\":
            pieces.append((match["escaped"] or "", 1.0))
        elif match["mark"] in opened and len(opened[piece]) >= MAX_DEPTH:
            pieces.append((piece, 1.0))
        elif match["mark"] in opened:
            opened[piece].append((len(pieces), start))
        elif number is not None and NUMBER.fullmatch(number) and close("(", within(float(number))):
            if float(number) != within(float(number)):
                notes.append(
                    Note(start + 1, end - 1, f"the weight {number} is beyond what can be drawn; it is limited")
                )
        elif number is not None and opened["("] and not NUMBER.fullmatch(number):
            notes.append(Note(start + 1, end - 1, f"{number} is no number; it is read as words"))
            pieces.append((piece[:-1], 1.0))
            close("(", STEP)
        elif (piece == ")" and close("(", STEP)) or (piece == "]" and close("[", 1 / STEP)):
            continue
        else:
            if piece[-1] in ")]":
                notes.append(Note(end - 1, end, f"{piece[-1]!r} closes nothing; it is read as text"))
            if not blanks and piece == ":" and opened["("] and _SPACED.match(text, end):
                notes.append(Note(start, end, "a weight is written without spaces, as in (word:1.3); this is text"))
            for place, words in enumerate(_BREAK.split(piece)):
                pieces += [None, (words, 1.0)] if place else [(words, 1.0)]
    for mark, factor in (("(", STEP), ("[", 1 / STEP)):
        for place, start in opened[mark]:
            weigh(place, factor)
            fix = f"add {CLOSING[mark]!r}, or write \\{mark} for the bracket itself"
            notes.append(Note(start, start + 1, f"{mark!r} is never closed and acts to the end; {fix}"))
    return _merged(pieces), tuple(sorted(notes, key=lambda note: note.start))


def _merged(pieces: list[tuple[str, float] | None]) -> Spans:
    """Neighbours of one weight become one, so that the tokenizer sees whole words."""
    spans: list[Span | Break] = []
    for weight, run in groupby(pieces or [("", 1.0)], key=lambda piece: None if piece is None else piece[1]):
        if weight is None:
            spans += [Break() for _ in run]
        else:
            spans.append(Span("".join(piece[0] for piece in run if piece is not None), weight))
    return tuple(spans)
