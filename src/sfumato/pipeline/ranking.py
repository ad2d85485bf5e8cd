"""The best of many pictures, by how well CLIP finds that they fit the prompt (Radford et al. 2021)."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from PIL import Image

from sfumato.pipeline.latents import Picture, Progress
from sfumato.settings.settings import Settings

if TYPE_CHECKING:
    from sfumato.api import StableDiffusion

Events = Generator[Progress | Picture, None, None]


class Ranking:
    """How a prompt's pictures are scored, and which of them are kept."""

    @classmethod
    def of(cls, model: StableDiffusion, settings: Settings) -> Ranking | None:
        """None where every picture is kept."""
        return None if settings.best_of is None else cls(model, settings)

    def __init__(self, model: StableDiffusion, settings: Settings):
        self.judge, self.kept = model.judge, settings.n

    def score(self, image: Image.Image, prompt: str) -> float:
        """The cosine of the judge's vectors of a picture and its prompt, to four places."""
        return round(self.judge.scores(image, self.judge.texts([prompt]))[0], 4)

    def best(self, events: Events) -> Events:
        """The same steps; then the best pictures of all, best first, numbered by rank. Of equals the earlier wins."""
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
