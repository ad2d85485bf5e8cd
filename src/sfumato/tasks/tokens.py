"""Shows the tokens that a model's text encoder reads of a prompt, without drawing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sfumato.pipeline.model import Model
from sfumato.settings.settings import Settings
from sfumato.text.embeddings import Vocabulary
from sfumato.text.encode import MAX_WINDOWS, T5Reader, TextEncoder
from sfumato.text.prompt import syntax
from sfumato.text.prompt.chunks import Token, windows
from sfumato.text.prompt.emphasis import Spans
from sfumato.text.prompt.syntax import read
from sfumato.text.prompt.tree import Note


@dataclass(frozen=True)
class Piece:
    """A token: what it stands for, its number in the vocabulary, and its weight."""

    text: str
    id: int
    weight: float


@dataclass(frozen=True)
class Reading:
    """What is read from step `first` to step `last`, counted from 1: CLIP's windows, and all that T5 reads.

    `cut` is how many tokens are more than the text encoder takes; a picture then fails.
    """

    first: int
    last: int
    text: str
    windows: tuple[tuple[Piece, ...], ...]
    t5: tuple[Piece, ...]
    cut: int


@dataclass(frozen=True)
class Part:
    """One of the prompts that AND joins."""

    weight: float
    readings: tuple[Reading, ...]


@dataclass(frozen=True)
class Tokens:
    """How a prompt is read: `prompt` is what chance made of `template`, and what the notes are about."""

    template: str
    prompt: str
    notes: tuple[Note, ...]
    adapters: tuple[str, ...]
    window: int
    parts: tuple[Part, ...]

    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        return dataclasses.asdict(self)


def tokens(model: Model, settings: Settings) -> Tokens:
    """Returns how a model reads the prompt of the first picture that settings describe, without the negative prompt.

    LoRAs do not count here. Raises SfumatoError for wildcards that cannot be read; of an embedding that is not here,
    SfumatoWarning says that it is read as words.
    """
    one = settings.of_picture(0)
    prompt, parts = read(one.prompt_syntax, one.prompt, one.steps)
    encoder = model.encode.with_embeddings(model.adapters.words(one))
    return Tokens(
        settings.prompt,
        one.prompt,
        prompt.notes,
        tuple(map(str, prompt.adapters)),
        model.encode.window,
        tuple(Part(part.weight, tuple(_readings(encoder, part))) for part in parts),
    )


def _readings(encoder: TextEncoder, part: syntax.Part) -> list[Reading]:
    found: list[Reading] = []
    step = 0

    def decode(id: int) -> str:
        return encoder.tokenizer.decode([id])

    for (text, spans), same in groupby(zip(part.texts, part.spans, strict=True)):
        first, step = step + 1, step + len(list(same))
        cut = windows(spans, encoder.vocabulary.units, encoder.window)
        pieces = tuple(tuple(_piece(encoder.vocabulary, decode, token) for token in row) for row in cut)
        found.append(Reading(first, step, text, pieces, _t5(encoder.t5, spans), sum(map(len, cut[MAX_WINDOWS:]))))
    return found


def _piece(vocabulary: Vocabulary, decode: Callable[[int], str], token: Token) -> Piece:
    """Vectors of an embedding are shown by its name."""
    name = vocabulary.name_of(token.id)
    return Piece(decode(token.id) if name is None else f"<{name}>", token.id, token.weight)


def _t5(reader: T5Reader | None, spans: Spans) -> tuple[Piece, ...]:
    if reader is None or reader.tokenizer is None:
        return ()
    (row,) = reader.rows([spans])
    return tuple(_piece(reader.vocabulary, reader.tokenizer.piece, token) for token in row)
