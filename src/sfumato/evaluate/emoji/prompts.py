"""What a model is asked to draw when it is measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

import numpy as np

from sfumato.data.emoji import captions, wording
from sfumato.data.emoji.captions import LANGUAGES, STYLES
from sfumato.data.emoji.dataset import EmojiData
from sfumato.data.emoji.wording import Asked, Thing
from sfumato.evaluate.emoji.questions import Question

Kind = Literal["name", "sentence", "keywords", "unseen", "plain", "held", "varied"]
WORDS: tuple[Kind, ...] = ("name", "sentence", "keywords")  # that name one thing
SCENES: tuple[Kind, ...] = ("plain", "held")  # by their wording
FIRST_SEEDS: dict[Kind, int] = {"varied": 500_000}
TRIES = 20


@dataclass(frozen=True)
class EvaluationPrompt:
    """A prompt and a seed.

    `place` is that of what is asked for: the number of a picture of the set, or that of a question ("plain", "held").
    `fitting` are the numbers of the concepts that answer it. `styled` says whether the style is named.
    """

    kind: Kind
    place: int
    language: str
    prompt: str
    fitting: tuple[int, ...] = ()
    styled: bool = True
    seed: int = 0


@dataclass(frozen=True)
class Plan:
    """How much is drawn: `names`, `sentences` and `keywords` in each language; `unseen` pictures in all, whose concept
    training saw in other styles; `scenes` of each kind in each language, in plain and in held wording each; `varied`
    prompts with `seeds` seeds each. At most `real` pictures of a kind go through the autoencoder."""

    names: int = 50
    sentences: int = 25
    keywords: int = 25
    unseen: int = 120
    scenes: int = 5
    varied: int = 12
    real: int = 200
    seeds: int = 4
    styles: tuple[str, ...] = STYLES
    process_starts: int = 2

    @classmethod
    def quick(cls, styles: tuple[str, ...] = STYLES) -> Plan:
        """What two cores draw in about two minutes; its intervals are wide."""
        return cls(
            names=6, sentences=4, keywords=4, unseen=12, scenes=1, varied=3, seeds=3, real=24, styles=styles,
            process_starts=1,
        )  # fmt: skip


def evaluation_prompts(
    data: EmojiData, chosen: np.ndarray, unseen: np.ndarray, questions: Sequence[Question], plan: Plan, seed: int
) -> list[EvaluationPrompt]:
    """All that is to be drawn; no two requests have the same seed. `chosen` pictures are those of the names, first."""
    found = [
        *_names(data, chosen[: plan.names]),
        *_sentences(data, chosen, plan.sentences, seed),
        *_keywords(data, chosen, plan.keywords, seed),
        *_unseen(data, unseen[: plan.unseen]),
        *_scenes(questions, plan.scenes, seed),
    ]
    found = [replace(one, seed=seed + k) for k, one in enumerate(found)]
    return found + list(_varied(data, chosen, plan, seed))


def _names(data: EmojiData, chosen: np.ndarray) -> Iterator[EvaluationPrompt]:
    for language in LANGUAGES:
        for i in chosen.tolist():
            text = captions.prompt(data.concept(i), data.style(i), language)
            yield EvaluationPrompt("name", i, language, text, (data.concept_index(i),))


def _sentences(data: EmojiData, chosen: np.ndarray, n: int, seed: int) -> Iterator[EvaluationPrompt]:
    """Free requests for the same things in words that training never uses, half of them without a style."""
    for language in LANGUAGES:
        rng = Random(f"sentences/{seed}/{language}")
        for k, i in enumerate(chosen[:n].tolist()):
            asked = Asked((Thing(data.concept(i)),), style=data.style(i) if k % 2 else None)
            text = wording.say(asked, language, rng, held=True)
            yield EvaluationPrompt("sentence", i, language, text, (data.concept_index(i),), asked.style is not None)


def _keywords(data: EmojiData, chosen: np.ndarray, n: int, seed: int) -> Iterator[EvaluationPrompt]:
    """Keywords in combinations that training never has; every concept that has them all answers them."""
    for language in LANGUAGES:
        rng = Random(f"keywords/{seed}/{language}")
        said = [set(concept.keywords[language]) for concept in data.concepts]
        found = 0
        for i in chosen.tolist():
            words = wording.keywords(data.concept(i), language, rng, held=True)
            if words and found < n:
                found += 1
                fitting = tuple(k for k, known in enumerate(said) if known.issuperset(words))
                text = wording.say_keywords(words, language, rng)
                yield EvaluationPrompt("keywords", i, language, text, fitting, styled=False)


def _unseen(data: EmojiData, numbers: np.ndarray) -> Iterator[EvaluationPrompt]:
    for k, i in enumerate(numbers.tolist()):
        language = LANGUAGES[k % len(LANGUAGES)]
        text = captions.prompt(data.concept(i), data.style(i), language)
        yield EvaluationPrompt("unseen", i, language, text, (data.concept_index(i),))


def _scenes(questions: Sequence[Question], n: int, seed: int) -> Iterator[EvaluationPrompt]:
    """The first n scenes of each kind for every language, in both wordings. Languages get different scenes, so that no
    scene weighs six times."""
    turns: Counter[str] = Counter()
    for k, question in enumerate(questions):
        turn = turns[question.kind]
        turns[question.kind] += 1
        if turn < n * len(LANGUAGES):
            language = LANGUAGES[turn % len(LANGUAGES)]
            for kind in SCENES:
                yield EvaluationPrompt(kind, k, language, question.prompt(language, kind == "held", seed + k))


def _varied(data: EmojiData, chosen: np.ndarray, plan: Plan, seed: int) -> Iterator[EvaluationPrompt]:
    """Names without a style, several seeds each."""
    for k, i in enumerate(chosen[: plan.varied].tolist()):
        concept, language = data.concept(i), LANGUAGES[k % len(LANGUAGES)]
        for turn in range(plan.seeds):
            yield EvaluationPrompt(
                "varied", i, language, concept.names[language], (data.concept_index(i),), styled=False,
                seed=seed + FIRST_SEEDS["varied"] + turn,
            )  # fmt: skip
