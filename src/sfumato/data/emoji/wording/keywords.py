"""Asking for a thing by words that have to do with it, and asking for nothing at all."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import cache
from random import Random

from sfumato.data.emoji.captions import KEYWORDS_LENGTH, Concept
from sfumato.data.emoji.wording import english
from sfumato.data.emoji.wording.lexicon import fillers, lexicon, loose
from sfumato.data.emoji.wording.pseudo import pseudo_word

HELD_EVERY = 5
TRIES = 12
FRAMED_SHARE = 0.4  # of the keywords in requests
FRAMES = ("tags", "pictures", "plain", "ask")
FRAME_WEIGHTS = (0.4, 0.3, 0.15, 0.15)
COMMAS = {"en": ", ", "th": " ", "zh": "，", "id": ", ", "uk": ", ", "ja": "、"}


def keywords(concept: Concept, language: str, rng: Random, held: bool = False) -> tuple[str, ...] | None:
    """One to three keywords of the concept; with `held` two or three that training never has together.

    None where it has none, or by chance none that are held. A single word comes from the rarer half, since a common
    one ("face") would stand for hundreds of pictures.
    """
    known = _telling(concept.hex, concept.keywords[language], language)
    if not known or (held and len(known) < 2):
        return None
    for _ in range(TRIES):
        count = min(rng.randint(2 if held else 1, 3), len(known))
        pool = known[: (len(known) + 1) // 2] if count == 1 else known
        chosen = rng.sample(pool, count)
        while len(chosen) > (2 if held else 1) and sum(map(len, chosen)) > KEYWORDS_LENGTH:
            chosen.pop()
        if is_held(concept, chosen) == held:
            return tuple(chosen)
    return None if held else (rng.choice(known[: (len(known) + 1) // 2]),)


def is_held(concept: Concept, words: Sequence[str]) -> bool:
    """Whether training never has these words together for this concept; a single word is never held."""
    if len(words) < 2:
        return False
    return zlib.crc32("|".join((concept.hex, *sorted(words))).encode()) % HELD_EVERY == 0


@cache
def _telling(hex: str, words: tuple[str, ...], language: str) -> tuple[str, ...]:
    """The keywords without those that wordings put before everything, such as "cute"."""
    passed_over = fillers(language)
    return tuple(word for word in words if word.lower() not in passed_over)


def say_keywords(words: Sequence[str], language: str, rng: Random) -> str:
    """Keywords as people type them: "royal, card", "card royal", sometimes in a sentence.

    Never joined by "and" or "with": those join several things.
    """
    text = rng.choices((COMMAS[language], " ", ", "), (0.45, 0.4, 0.15))[0].join(rng.sample(list(words), len(words)))
    return text if rng.random() < 0.65 else rng.choice(loose(language)["keywords"]).format(w=text)


def ask_for_keywords(words: Sequence[str], language: str, rng: Random) -> str:
    """Keywords as `say_keywords` has them, at times in the place of a name: "portrait of a king, watercolour"."""
    text = say_keywords(words, language, rng)
    if rng.random() > FRAMED_SHARE:
        return text
    half = lexicon(language, False)
    frames = half.frames[rng.choices(FRAMES, FRAME_WEIGHTS)[0]]
    frame = rng.choice([frame for frame in frames if not frame.slots & {"v", "w", "n1"}])
    picture = rng.choice(half.tables["pictures.words"])
    values = {"x": text, "s": text, "p": picture, "q": picture}
    if language == "en":
        values |= {"p": english.with_article(picture)}
        values |= {"x": english.with_article(text)} if rng.random() < 0.5 else {}
    return " ".join(half.render(frame, values, rng).split())


def nothing(language: str, rng: Random) -> str:
    """A prompt that names nothing to draw, as people write them, negative prompts among them."""
    tables = loose(language)
    chance = rng.random()
    if chance < 0.08:
        return ""
    if chance < 0.38:
        return rng.choice(tables["vague"])
    if chance < 0.5:
        words = [pseudo_word(language, rng, rng.random() < 0.5).removesuffix("*") for _ in range(rng.randint(1, 3))]
        return " ".join(words)
    unwanted = tables["negative"] if language == "en" or rng.random() < 0.75 else loose("en")["negative"]
    chosen = rng.sample(unwanted, rng.randint(1, 7))
    return (COMMAS[language] if rng.random() < 0.6 and language != "th" else ", ").join(chosen)
