"""What a model is asked to draw when it is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

import numpy as np

from sfumato.data.emoji import captions
from sfumato.data.emoji.captions import COLOURS, LANGUAGES
from sfumato.data.emoji.dataset import EmojiData
from sfumato.evaluate.attributes import Question

Kind = Literal["picture", "ground", "scene"]


@dataclass(frozen=True)
class EvaluationPrompt:
    """A prompt and a seed.

    `place` is that of what is asked for: among the chosen pictures ("picture"), the named colours ("ground") or the
    questions ("scene"). `turn` counts the seeds of one prompt.
    """

    kind: Kind
    place: int
    language: str
    prompt: str
    seed: int
    turn: int


def evaluation_prompts(
    data: EmojiData, chosen: np.ndarray, questions: Sequence[Question], seed: int, turns: int
) -> list[EvaluationPrompt]:
    """The names of chosen pictures in every language, some of them on named backgrounds, questions in every language.

    All of it `turns` times over; no two requests have the same seed.
    """
    pairs = [(data.concept(int(i)), data.style(int(i))) for i in chosen]
    asked: list[tuple[Kind, int, str, str]] = [
        ("picture", k, language, captions.prompt(concept, style, language))
        for language in LANGUAGES
        for k, (concept, style) in enumerate(pairs)
    ]
    for k, (concept, style) in enumerate(pairs):
        language, place = LANGUAGES[k % len(LANGUAGES)], k % len(COLOURS)
        asked.append(("ground", place, language, captions.caption(concept, style, language, Random(k), COLOURS[place])))
    asked += [
        ("scene", k, language, question.prompt(language))
        for language in LANGUAGES
        for k, question in enumerate(questions)
    ]
    return [
        EvaluationPrompt(*one, seed=seed + turn * len(asked) + k, turn=turn)
        for turn in range(turns)
        for k, one in enumerate(asked)
    ]
