"""Pictures behind the figures, for a person to look at."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from sfumato.evaluate.emoji.attributes import Answer


@dataclass(frozen=True, eq=False)
class SingleSample:
    """A drawn picture beside the real one of the same prompt, how like that the judge finds it (cosine), and the
    training picture that is nearest to it by pixels, with its distance as in `originality.Distance`."""

    image: Image.Image
    prompt: str
    language: str
    seed: int
    real: Image.Image
    likeness: float
    nearest: Image.Image
    distance: float


@dataclass(frozen=True, eq=False)
class WordsSample:
    """A picture of words that training never saw, beside a real one of the concept, and what the judge takes it for."""

    image: Image.Image
    prompt: str
    language: str
    seed: int
    real: Image.Image
    seen: str
    right: float


@dataclass(frozen=True, eq=False)
class SceneSample:
    """A drawn scene beside the composed one, and what was asked and seen."""

    image: Image.Image
    prompt: str
    language: str
    seed: int
    real: Image.Image
    answers: list[Answer]


@dataclass(frozen=True)
class Samples:
    """In the order in which they were asked for. Each of `varied` is one prompt with its pictures of several seeds."""

    singles: list[SingleSample]
    scenes: list[SceneSample]
    words: list[WordsSample]
    varied: list[tuple[str, list[Image.Image]]]
