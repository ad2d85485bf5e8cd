"""Keeps the best of many pictures: those whose CLIP vector is nearest to the prompt's (Radford et al. 2021)."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from typing import Protocol

from PIL import Image
from torch import Tensor

from sfumato.pipeline.events import Events, Picture


class Scorer(Protocol):
    """What compares pictures and words, see `Model.perceptor`."""

    def encode_text(self, texts: list[str]) -> Tensor: ...

    def scores(self, image: Image.Image, texts: Tensor) -> list[float]: ...


@dataclass(frozen=True)
class Ranking:
    """Scores a prompt's pictures and keeps some of them."""

    scorer: Scorer
    kept: int

    def score(self, image: Image.Image, prompt: str) -> float:
        """Returns the cosine of the scorer's vectors of a picture and its prompt, to four places."""
        return round(self.scorer.scores(image, self.scorer.encode_text([prompt]))[0], 4)

    def best(self, events: Events) -> Events:
        """Yields the same steps; then the best pictures of all, best first, numbered by rank. Of equals the earlier
        wins."""
        finished: list[Picture] = []
        with closing(events):
            for event in events:
                if isinstance(event, Picture):
                    finished = sorted([*finished, event], key=_rank)[: self.kept]
                else:
                    yield event
        yield from (replace(picture, index=rank) for rank, picture in enumerate(finished))


def _rank(picture: Picture) -> tuple[float, int]:
    return -(picture.score or 0.0), picture.index
