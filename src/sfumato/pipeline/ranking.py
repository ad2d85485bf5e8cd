"""Keeps the best of many pictures: those whose CLIP vector is nearest to the prompt's (Radford et al. 2021), or those
that an aesthetic predictor likes best."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from PIL import Image

from sfumato.diffusion.driver import emitting
from sfumato.pipeline.aesthetic import kept_aesthetic
from sfumato.pipeline.events import Drawing, Picture, Progress
from sfumato.pipeline.model import Model
from sfumato.settings.settings import Settings


@dataclass(frozen=True)
class Ranking:
    """Scores pictures by themselves and their prompts, and keeps so many of them. `predictor` names what does so, None
    is the perceptor."""

    measure: Callable[[Image.Image, str], float]
    kept: int
    predictor: str | None = None

    @classmethod
    def of(cls, model: Model, settings: Settings) -> Ranking | None:
        """The ranking that settings ask for. Raises SfumatoError for an aesthetic predictor that cannot be loaded."""
        if settings.best_of is None:
            return None
        if settings.aesthetic is not None:
            liking = kept_aesthetic(settings.aesthetic, settings.clip_vision, model.device)
            return cls(lambda image, prompt: liking(image), settings.n, liking.name)
        clip = model.perceptor
        return cls(lambda image, prompt: clip.scores(image, clip.encode_text([prompt]))[0], settings.n)

    def score(self, image: Image.Image, prompt: str) -> float:
        """Returns the score of a picture that was drawn for a prompt, to four places."""
        return round(self.measure(image, prompt), 4)

    def facts(self, score: float) -> dict[str, object]:
        """Returns the fields of a picture's settings that say its score."""
        if self.predictor is None:
            return {"CLIP score": score}
        return {"Aesthetic predictor": self.predictor, "Predicted score": score}

    def best(self, drawing: Drawing) -> Drawing:
        """Yields the same steps; then the best pictures of all, best first, numbered by rank. Of equals the earlier
        wins."""
        finished: list[Picture] = []

        def keep(event: object) -> Iterator[Progress | Picture]:
            nonlocal finished
            if isinstance(event, Picture):
                finished = sorted([*finished, event], key=_rank)[: self.kept]
            elif isinstance(event, Progress):
                yield event

        yield from emitting(drawing, keep)
        yield from (replace(picture, index=rank) for rank, picture in enumerate(finished))


def _rank(picture: Picture) -> tuple[float, int]:
    return -(picture.score or 0.0), picture.index
