"""What the benchmark found."""

from __future__ import annotations

from dataclasses import dataclass

from sfumato.evaluate.emoji.scores import Attributes
from sfumato.evaluate.emoji.variety import Variety
from sfumato.evaluate.intervals import Estimate
from sfumato.evaluate.originality import Originality
from sfumato.evaluate.precision import Precision
from sfumato.evaluate.reconstruction import Reconstruction
from sfumato.evaluate.speed import Speed


@dataclass(frozen=True)
class Concepts:
    """Shares of pictures that show what was asked for: before 99 other concepts, and before all others."""

    of_100: Estimate | None
    of_all: Estimate | None


@dataclass(frozen=True)
class Unseen:
    """Pictures of concepts in a style in which training never saw them: whether concept and style are right, and
    whether the judge gets the concept of the real pictures right."""

    concept: Concepts
    style: Estimate | None
    real_concept: Concepts


@dataclass(frozen=True)
class Report:
    """What `measure` found; see each part.

    `words` are shares of right concepts by kind of wording and language, "real" those of the real pictures. `scenes`
    are by wording, None of it where none was drawn.
    """

    speed: Speed
    reconstruction: dict[str, Reconstruction]
    precision: dict[str, Precision]
    words: dict[str, dict[str, Concepts]]
    unseen: Unseen
    scenes: dict[str, Attributes]
    variety: Variety
    originality: Originality
