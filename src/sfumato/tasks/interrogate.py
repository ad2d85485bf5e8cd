"""Says what a picture shows: the captions of a list nearest to it by CLIP (Radford et al. 2021, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from sfumato.errors import SfumatoError
from sfumato.files import read_text
from sfumato.pipeline.clip_scorer import ClipScorer

MAX_CAPTIONS = 100_000


@dataclass(frozen=True)
class Match:
    """A caption and its score, the cosine of its vector and the picture's."""

    caption: str
    score: float


def check_captions(captions: Sequence[str], top: int) -> None:
    """Raises SfumatoError for no captions, one that is no text or empty, too many, and a `top` below 1."""
    if not isinstance(top, int) or isinstance(top, bool) or top < 1:
        raise SfumatoError(f"top is {top!r}; choose a whole number of captions, such as 5")
    if isinstance(captions, str) or not all(isinstance(one, str) and one.strip() for one in captions):
        raise SfumatoError("captions are a list of texts that are not empty")
    if not 1 <= len(captions) <= MAX_CAPTIONS:
        raise SfumatoError(f"there are {len(captions):,} captions; give 1 to {MAX_CAPTIONS:,}")


def interrogate(scorer: ClipScorer, image: Image.Image, captions: Sequence[str], top: int = 5) -> list[Match]:
    """Returns the `top` captions that fit an RGB picture best, best first.

    Raises SfumatoError for no captions, one that is no text or empty, too many, and a `top` below 1.
    """
    check_captions(captions, top)
    distinct = list(dict.fromkeys(captions))
    scores = scorer.scores(image, scorer.encode_text(distinct))
    ranked = sorted(zip(distinct, scores, strict=True), key=lambda pair: -pair[1])
    return [Match(caption, round(score, 4)) for caption, score in ranked[:top]]


def read_captions(file: str | Path) -> list[str]:
    """Returns a text file's lines that are not empty. Raises SfumatoError for a file that is missing or no text."""
    lines = read_text(file).splitlines()
    captions = [line.strip() for line in lines if line.strip()]
    if not captions:
        raise SfumatoError(f"{file} holds no captions; give one a line")
    return captions
