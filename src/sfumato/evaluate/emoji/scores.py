"""Figures of answers: shares of right ones, and what was taken for what."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sfumato.evaluate.emoji.attributes import ATTRIBUTES, Answer
from sfumato.evaluate.intervals import Estimate

Matrix = dict[str, dict[str, int]]
CONFUSED = ("count", "position", "colour", "pose")  # the attributes of few values
APART = ("position", "size", "pose")  # whose values have a row each


@dataclass(frozen=True)
class Examined:
    """The answers of one picture, and the language of its prompt."""

    language: str
    answers: list[Answer]


@dataclass(frozen=True)
class Score:
    """Shares of right answers: of drawn pictures, of real scenes (None where these were not asked), by language."""

    drawn: Estimate
    real: Estimate | None
    languages: dict[str, Estimate]


@dataclass(frozen=True)
class Attributes:
    """`scores` by attribute, some values apart. `confusion[attribute]["drawn" or "real"][asked][seen]` counts."""

    scores: dict[str, Score]
    confusion: dict[str, dict[str, Matrix]]


def score_attributes(drawn: Sequence[Examined], real: Sequence[Sequence[Answer]]) -> Attributes:
    """Of drawn pictures in any languages, beside real scenes."""
    rows: dict[str, list[tuple[str, bool]]] = defaultdict(list)
    said = [(picture.language, answer) for picture in drawn for answer in picture.answers]
    for language, answer in sorted(said, key=lambda pair: ATTRIBUTES.index(pair[1].attribute)):
        rows[row_of(answer)].append((language, answer.right))
    truths = [answer for answers in real for answer in answers]
    scores = {}
    for row, pairs in rows.items():
        share = Estimate.share(right for _, right in pairs)
        assert share is not None
        languages: dict[str, list[bool]] = defaultdict(list)
        for language, right in pairs:
            languages[language].append(right)
        scores[row] = Score(
            drawn=share,
            real=Estimate.share(answer.right for answer in truths if row_of(answer) == row),
            languages={name: found for name, hits in languages.items() if (found := Estimate.share(hits))},
        )
    answered = [answer for _, answer in said]
    confusion = {kind: {"drawn": matrix(answered, kind), "real": matrix(truths, kind)} for kind in CONFUSED}
    return Attributes(scores, confusion)


def row_of(answer: Answer) -> str:
    """Under which name an answer is counted."""
    if answer.attribute == "count" and answer.asked == "many":
        return "many"
    return answer.asked if answer.attribute in APART else answer.attribute


def matrix(answers: Iterable[Answer], attribute: str) -> Matrix:
    """How often what was seen where what was asked for."""
    counts = Counter((answer.asked, answer.seen) for answer in answers if answer.attribute == attribute)
    found: Matrix = defaultdict(dict)
    for (asked, seen), number in sorted(counts.items()):
        found[asked][seen] = number
    return dict(found)


def share_right(answers: Sequence[Answer]) -> float:
    """For ranking pictures: the share of right answers, the whole counting as one of them."""
    return sum(answer.right for answer in answers) / max(1, len(answers)) + (answers[-1].right if answers else 0) * 1e-3
