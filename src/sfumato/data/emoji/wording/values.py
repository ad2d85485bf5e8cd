"""All phrases that say a number, colour, size, pose, place or style, for a lexicon.

They are what the patterns of training say around a name: "{n} turned upside down" has one for a pose. What may lie
behind things, such as a wall, is known besides: a colour of it is the background's.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from string import punctuation

from sfumato.data.emoji.captions import COLOURS, LANGUAGES, STYLE_WORDS, STYLES
from sfumato.data.emoji.nouns import tint_of
from sfumato.data.emoji.wording.lexicon import Half, lexicon
from sfumato.nets.layout import MAX_COUNT, PLACES, POSES, SIZES
from sfumato.nets.lexicon import LONGEST, is_edge, phrase_form

NUMBERS = ("numbers", "numbers_known", "numbers_many")
UKRAINIAN = {  # in the cases that patterns lack
    "двох": 2, "двома": 2, "двоє": 2, "два": 2, "дві": 2, "пара": 2, "пару": 2, "обидва": 2, "трьох": 3, "трьома": 3,
    "троє": 3, "чотирьох": 4, "четверо": 4, "п'ятьох": 5, "п'ятеро": 5, "шістьох": 6, "шестеро": 6,
}  # fmt: skip
STYLE_LENGTH = 14  # characters of a style's phrases; the longer ones hold a shorter one
MARKS = punctuation + "—–×…「」『』（）【】《》、。，：；！？ "
_SLOTS = re.compile(r"\{\w+\}")


@cache
def values() -> tuple[tuple[str, str, int], ...]:
    """Returns phrases, each with a field of `nets.reader.Reading` and the place of its value among that field's values,
    which begin with the first that can be said.

    Phrases with a shorter one inside that says the same are left out, unless another value is inside as well.
    """
    kept = []
    for form, said in sorted(_said().items()):
        fields = {field for field, _ in said}
        inside = {value for part in parts(form) for value in _said().get(part, ()) if value[0] in fields}
        if inside != set(said):
            kept += [(phrase, field, place) for (field, place), phrase in sorted(said.items())]
    return tuple(kept)


def says_value(phrase: str) -> bool:
    """Whether a phrase is one for a value, also one that `values` leaves out."""
    return phrase_form(phrase) in _said()


def holds_value(phrase: str) -> bool:
    """Whether a phrase is one for a value or has one inside."""
    return says_value(phrase) or any(part in _said() for part in parts(phrase_form(phrase)))


@cache
def _said() -> dict[str, dict[tuple[str, int], str]]:
    """By the form of a phrase: the fields and places that it says, each with the phrase."""
    found: dict[str, dict[tuple[str, int], str]] = defaultdict(dict)
    for phrase, field, place in sorted(_all()):
        found[phrase_form(phrase)][field, place] = phrase
    return dict(found)


def parts(form: str) -> Iterator[str]:
    """Yields everything that stands in the form of a phrase by itself, but not the whole."""
    edges = [k for k in range(len(form) + 1) if is_edge(form, k)]
    for start in edges:
        yield from (form[start:end] for end in edges if end > start and end - start < len(form))


def _all() -> Iterator[tuple[str, str, int]]:
    for language in LANGUAGES:
        half = lexicon(language, False)
        yield from _colours(language, half)
        for field, patterns in _patterns(half):
            for place, those in enumerate(patterns):
                yield from ((phrase, field, place) for phrase in _around(those))
        for place, style in enumerate(STYLES):
            those = [one for way in ("noun", "near", "tail") for one in half.tables[f"styles.{style}.{way}"]]
            found = {phrase for phrase in _around(those) if len(phrase) <= STYLE_LENGTH}
            yield from ((phrase, "style", place) for phrase in found.union(STYLE_WORDS[language][style]))
        for surface in half.tables["ground.surfaces"]:
            yield from ((form, "surface", 0) for form in surface.split("/")[:3])
    yield from ((word, "count", count - 1) for word, count in UKRAINIAN.items())


def _patterns(half: Half) -> Iterator[tuple[str, list[list[str]]]]:
    """The fields that patterns around a name say, each with the patterns of its values."""
    yield "size", [_attribute(half, name) for name in SIZES]
    yield "pose", [_attribute(half, name) for name in POSES]
    counts = range(1, MAX_COUNT + 1)
    yield "count", [[one for table in NUMBERS for one in half.tables.get(f"{table}.{n}", ())] for n in counts]
    yield "place", [list(half.tables[f"places.{name}"]) for name in PLACES]


def _attribute(half: Half, name: str) -> list[str]:
    every = half.modifiers.values()
    return [one for modifiers in every for one in (*modifiers.attributes[name], *modifiers.attributes_tail[name])]


def _colours(language: str, half: Half) -> Iterator[tuple[str, str, int]]:
    for place, colour in enumerate(COLOURS):
        words = {colour.words[language], *half.tables.get(f"colours.{colour.name}", ())}
        if language == "uk":
            words.add(colour.locative)
        if language == "th":
            words |= {f"สี{word}" for word in words}
        if language == "zh":
            words |= {word.removesuffix("色") for word in words}
        for word in words:
            yield word, "ground", place
            if tint_of(colour.name):
                yield word, "tint", tint_of(colour.name) - 1


def _around(patterns: list[str]) -> set[str]:
    """Returns what patterns say on the one side of their name, without marks; a word of marks alone says nothing."""
    found: set[str] = set()
    for pattern in patterns:
        for verb, own in (("is", "its"), ("are", "their")):
            text = pattern.replace("{is}", verb).replace("{its}", own).replace("*", "")
            sides = [side.strip(MARKS) for side in _SLOTS.split(text)]
            said = [side for side in sides if side]
            if len(said) == 1 and len(sides) == len(set(_SLOTS.findall(text))) + 1 and len(said[0]) <= LONGEST:
                found.add(said[0].casefold())
    return found
