"""Maps of where a picture attends to which word, step by step, while it is drawn."""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch
from torch import Tensor

from sfumato.diffusion.driver import Denoiser, Row, emitting
from sfumato.diffusion.guidance import Estimate, Guide
from sfumato.nets.attention_maps import AttentionMaps
from sfumato.pipeline.attention_words import Named, things_named, words_named
from sfumato.pipeline.events import Drawing, Events, Picture, Progress, WordMaps
from sfumato.pipeline.model import Model
from sfumato.settings.settings import Settings
from sfumato.text.prompt.emphasis import Spans
from sfumato.text.prompt.syntax import read

MOST_KEPT = 64  # maps that wait for the report of their step


def with_word_maps(model: Model, settings: Settings, draw: Callable[[Model], Events]) -> Events:
    """What `draw` yields, with `Progress.attention` of each step, of the first prompt where AND joins several.

    `draw` gets the model as one whose network is watched under the prompt. Without watching the pictures are the same
    but for rounding, as the watched rows make calls of their own.
    """
    seen = _Seen()
    watched = copy.copy(model)
    watched.guides = (*model.guides, ("", seen.guide))
    events = draw(watched)
    words = lru_cache(settings.draws)(lambda picture: _Readings.of(model, settings, picture))

    def change(event: Progress | Picture) -> Iterator[Progress | Picture]:
        if isinstance(event, Progress) and (maps := seen.take(event.x)) is not None:
            named = words(event.picture).at(event.step)
            event = replace(event, attention=_of_words(named, maps))
        yield event

    drawing: Drawing = emitting(events.drawing, change)  # type: ignore[arg-type]  # mypy joins the union to object
    return Events(drawing, events.max_rows)


@dataclass(eq=False)
class _Seen:
    """The maps of tokens of what was asked last, by the latents that it was asked about."""

    maps: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def take(self, x: Tensor | None) -> Tensor | None:
        """The maps (tokens, h, w) of the call about these very latents, once; None where there was none."""
        return self.maps.pop(id(x), (None, None))[1]

    def keep(self, x: Tensor, maps: Tensor) -> None:
        """Keeps the maps of a call about x; the oldest go that no step reported."""
        while len(self.maps) >= MOST_KEPT:
            del self.maps[next(iter(self.maps))]
        self.maps[id(x)] = x, maps

    def guide(self, guide: Guide, positive: Guide, negative: Guide) -> Guide:
        """As `guide`, which is one picture's, with what is `positive` asked of a watched network."""
        networks: dict[int, tuple[Denoiser, AttentionMaps]] = {}

        def watched(denoiser: Denoiser) -> tuple[Denoiser, AttentionMaps]:
            if id(denoiser) not in networks:
                maps = AttentionMaps(denoiser.network)
                networks[id(denoiser)] = replace(denoiser, network=maps.network), maps
            return networks[id(denoiser)]

        def asked(rows: list[Row], first: Row) -> Generator[list[Row], list[Tensor], list[Tensor]]:
            if all(row.question != first.question for row in rows):
                return (yield rows)
            own, maps = watched(first.denoiser)
            answers = yield [replace(row, denoiser=own) if row.question == first.question else row for row in rows]
            if (taken := maps.take()) is not None:
                self.keep(first.x, taken)
            return answers

        def denoise(x: Tensor, sigma: float) -> Estimate:
            first, estimate = _first_of(positive(x, sigma)), guide(x, sigma)
            answers: list[Tensor] | None = None
            while True:
                try:
                    rows = next(estimate) if answers is None else estimate.send(answers)
                except StopIteration as stop:
                    return stop.value
                answers = yield from asked(rows, first)

        return denoise


def _first_of(positive: Estimate) -> Row:
    """What the prompt asks of the network, or the first of its prompts (before which the negative one is asked)."""
    rows = next(positive)
    positive.close()
    return rows[min(1, len(rows) - 1)]


def _of_words(named: Named, maps: Tensor) -> WordMaps:
    """The maps of words: the sums of their tokens'."""
    shares = [maps[places].sum(0).cpu() for _, places in named]
    return WordMaps(tuple(word for word, _ in named), torch.stack(shares) if shares else maps[:0].cpu())


@dataclass(frozen=True, eq=False)
class _Readings:
    """The words of one picture's prompt, at each step."""

    steps: Sequence[Spans]
    read: Callable[[Spans], Named]

    @classmethod
    def of(cls, model: Model, settings: Settings, picture: int) -> _Readings:
        one = settings.of_picture(picture)
        model = model.for_request(settings).for_picture(one)
        _, parts = read(one.prompt_syntax, one.prompt, one.steps)
        _, (away,) = read(one.prompt_syntax, one.negative, one.steps, compose=False)
        encode, prior = model.encode, model.prior

        def named(spans: Spans) -> Named:
            if prior is not None:
                return things_named(prior, encode.words(spans, one.clip_skip, one.emphasis), one.seed)
            return words_named(encode, spans, count)

        every = {spans for part in (*parts, away) for spans in part.spans} if prior is None else ()
        count = max((len(encode.windows(spans)) for spans in every), default=1)
        return cls(parts[0].spans, lru_cache(named))

    def at(self, step: int) -> Named:
        """The words at a step, counted from 1."""
        return self.read(self.steps[min(step, len(self.steps)) - 1])
