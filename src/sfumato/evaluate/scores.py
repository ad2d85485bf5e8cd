"""Figures of answers: shares of right ones, what chance alone would make of them, and what was taken for what."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TypeVar

from sfumato.evaluate.attributes import ATTRIBUTES, Answer

Matrix = dict[str, dict[str, int]]
K = TypeVar("K")
SHOWN = ("count", "position", "colour")  # the attributes of few values


@dataclass(frozen=True)
class Examined:
    """The answers of one picture, the language of its prompt, and with which of the seeds it was drawn."""

    language: str
    turn: int
    answers: list[Answer]


@dataclass(frozen=True)
class Score:
    """Share of right answers among the `asked` that drawn pictures gave; `real` is that of real scenes.

    `chance` is what it would be if a picture's answer had nothing to do with its question (Cohen 1960), None where
    everything is asked for the same. `spread` is the standard deviation between seeds, None of a single one.
    """

    asked: int
    drawn: float
    real: float | None
    chance: float | None
    spread: float | None
    languages: dict[str, float]


@dataclass(frozen=True)
class Attributes:
    """`scores` by attribute, each position apart. `confusion[attribute]["drawn" or "real"][asked][seen]` counts."""

    scenes: int
    real_scenes: int
    scores: dict[str, Score]
    confusion: dict[str, dict[str, Matrix]]


def score_attributes(drawn: Sequence[Examined], real: Sequence[Sequence[Answer]], scenes: int) -> Attributes:
    """Of pictures that were drawn of so many scenes, in any languages and with any seeds, beside real scenes."""
    said = [(picture, answer) for picture in drawn for answer in picture.answers]
    truths = [answer for answers in real for answer in answers]
    seen = {kind: Counter(answer.seen for _, answer in said if answer.attribute == kind) for kind in ATTRIBUTES}

    asked = {kind: {answer.asked for _, answer in said if answer.attribute == kind} for kind in ATTRIBUTES}

    def by_chance(answers: Sequence[Answer]) -> float | None:
        kind = answers[0].attribute
        if len(asked[kind]) == 1:
            return None
        return fmean(seen[kind][answer.asked] / seen[kind].total() for answer in answers)

    rows: dict[str, list[tuple[Examined, Answer]]] = defaultdict(list)
    for picture, answer in sorted(said, key=lambda pair: ATTRIBUTES.index(pair[1].attribute)):
        rows[row_of(answer)].append((picture, answer))
    scores = {}
    for row, pairs in rows.items():
        turns = _shares(pairs, lambda picture: picture.turn)
        alike = [answer.right for answer in truths if row_of(answer) == row]
        scores[row] = Score(
            asked=len(pairs),
            drawn=fmean(answer.right for _, answer in pairs),
            real=fmean(alike) if alike else None,
            chance=by_chance([answer for _, answer in pairs]),
            spread=stdev(turns.values()) if len(turns) > 1 else None,
            languages=_shares(pairs, lambda picture: picture.language),
        )
    answered = [answer for _, answer in said]
    confusion = {kind: {"drawn": matrix(answered, kind), "real": matrix(truths, kind)} for kind in SHOWN}
    return Attributes(scenes, len(real), scores, confusion)


def row_of(answer: Answer) -> str:
    """Under which name an answer is counted."""
    return answer.asked if answer.attribute == "position" else answer.attribute


def matrix(answers: Iterable[Answer], attribute: str) -> Matrix:
    """How often what was seen where what was asked for."""
    counts = Counter((answer.asked, answer.seen) for answer in answers if answer.attribute == attribute)
    found: Matrix = defaultdict(dict)
    for (asked, seen), number in sorted(counts.items()):
        found[asked][seen] = number
    return dict(found)


def _shares(pairs: Sequence[tuple[Examined, Answer]], key: Callable[[Examined], K]) -> dict[K, float]:
    hits: dict[K, list[bool]] = defaultdict(list)
    for picture, answer in pairs:
        hits[key(picture)].append(answer.right)
    return {group: fmean(right) for group, right in hits.items()}
