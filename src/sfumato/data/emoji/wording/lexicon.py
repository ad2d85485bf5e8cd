"""Reading the wording of a language: `en.toml` and its five sisters.

Each file has two halves with the same tables: `train`, and `held`, whose wording training never uses; `loose` are words
outside of requests. Patterns hold slots in braces. An adjective that ends with "*" in a Ukrainian pattern agrees with
its noun.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from random import Random
from string import Formatter
from typing import Any

SPACELESS = ("th", "zh", "ja")  # languages that write words together
# Masculine, feminine, neuter, plural; then feminine accusative, masculine (or neuter) genitive, feminine genitive,
# masculine (or neuter) and feminine instrumental, genitive plural.
GENDERS = ("m", "f", "n", "p", "fa", "ma", "fg", "mi", "fi", "pg")


_HARD = {
    "m": "ий",
    "f": "а",
    "n": "е",
    "p": "і",
    "fa": "у",
    "ma": "ого",
    "fg": "ої",
    "mi": "им",
    "fi": "ою",
    "pg": "их",
}
_IRREGULAR = {
    "мій": ("мій", "моя", "моє", "мої", "мою", "мого", "моєї", "моїм", "моєю", "моїх"),
    "твій": ("твій", "твоя", "твоє", "твої", "твою", "твого", "твоєї", "твоїм", "твоєю", "твоїх"),
    "цей": ("цей", "ця", "це", "ці", "цю", "цього", "цієї", "цим", "цією", "цих"),
    "той": ("той", "та", "те", "ті", "ту", "того", "тієї", "тим", "тією", "тих"),
    "один": ("один", "одна", "одне", "одні", "одну", "одного", "однієї", "одним", "однією", "одних"),
    "наш": ("наш", "наша", "наше", "наші", "нашу", "нашого", "нашої", "нашим", "нашою", "наших"),
    "чийсь": ("чийсь", "чиясь", "чиєсь", "чиїсь", "чиюсь", "чийогось", "чиєїсь", "чиїмось", "чиєюсь", "чиїхось"),
    "якийсь": ("якийсь", "якась", "якесь", "якісь", "якусь", "якогось", "якоїсь", "якимось", "якоюсь", "якихось"),
    "бабусин": (
        "бабусин",
        "бабусина",
        "бабусине",
        "бабусині",
        "бабусину",
        "бабусиного",
        "бабусиної",
        "бабусиним",
        "бабусиною",
        "бабусиних",
    ),
    "їхній": ("їхній", "їхня", "їхнє", "їхні", "їхню", "їхнього", "їхньої", "їхнім", "їхньою", "їхніх"),
}
_SOFT = {
    "m": "ій",
    "f": "я",
    "n": "є",
    "p": "і",
    "fa": "ю",
    "ma": "ього",
    "fg": "ьої",
    "mi": "ім",
    "fi": "ьою",
    "pg": "іх",
}


@dataclass(frozen=True)
class Template:
    """A pattern in pieces: each is a literal text and the name of the slot that follows, or None at the end."""

    parts: tuple[tuple[str, str | None], ...]

    @classmethod
    def of(cls, pattern: str) -> Template:
        return cls(tuple((literal, slot) for literal, slot, _, _ in Formatter().parse(pattern)))

    @property
    def slots(self) -> frozenset[str]:
        return frozenset(slot for _, slot in self.parts if slot)

    @property
    def bare(self) -> bool:
        """Whether it is nothing but its subject."""
        return self.parts in ((("", "x"),), (("", "s"),))


@dataclass(frozen=True)
class Modifiers:
    """Patterns around a noun {n}; `tail` has at most one of them, last. Colours are {c}."""

    adjectives: tuple[str, ...]
    colour: tuple[str, ...]
    colour_tail: tuple[str, ...]
    attributes: dict[str, tuple[str, ...]]
    attributes_tail: dict[str, tuple[str, ...]]
    styles: dict[str, tuple[str, ...]]
    determiners: tuple[str, ...]


@dataclass(frozen=True)
class Half:
    """The wording of one language, either for training or held.

    `frames` stand around a whole request: {x} is the subject with its article, {s} without, {v} in the accusative, {w}
    in the genitive, {p} a picture word with its article, {q} without; other slots name one of `lists`. `modifiers` go
    by the gender of the noun. `tables` are the remaining lists of patterns by their dotted names, such as
    "relations.left".
    """

    frames: dict[str, tuple[Template, ...]]
    lists: dict[str, tuple[Template, ...]]
    modifiers: dict[str, Modifiers]
    tables: dict[str, tuple[str, ...]]

    def render(self, template: Template, values: dict[str, str], rng: Random) -> str:
        """The template with `values` in its slots, and a random entry of the list where a slot has no value."""
        pieces = []
        for literal, slot in template.parts:
            pieces.append(literal)
            if slot is not None:
                value = values.get(slot)
                pieces.append(self.render(rng.choice(self.lists[slot]), values, rng) if value is None else value)
        return "".join(pieces)


@cache
def lexicon(language: str, held: bool) -> Half:
    """The wording of a language."""
    half = _file(language)["held" if held else "train"]
    tables = dict(_flat(half))
    return Half(
        {name: tuple(map(Template.of, patterns)) for name, patterns in half["frames"].items()},
        {name: tuple(map(Template.of, patterns)) for name, patterns in half["lists"].items()},
        {gender: _modifiers(half, gender) for gender in GENDERS},
        {name: tuple(patterns) for name, patterns in tables.items()},
    )


@cache
def loose(language: str) -> dict[str, tuple[str, ...]]:
    """The words of a language that belong to no request: noise, sentences around keywords, prompts for nothing."""
    return {name: tuple(entries) for name, entries in _file(language)["loose"].items()}


@cache
def _file(language: str) -> dict[str, Any]:
    return tomllib.loads((resources.files(__package__) / f"{language}.toml").read_text(encoding="utf-8"))


def _flat(table: dict[str, Any], prefix: str = "") -> Any:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _modifiers(half: dict[str, Any], gender: str) -> Modifiers:
    def agreed(patterns: list[str]) -> tuple[str, ...]:
        return tuple(_agreed(pattern, gender) for pattern in patterns)

    attributes = half["attributes"]
    return Modifiers(
        agreed(half["adjectives"]),
        agreed(half["colour"]["near"]),
        agreed(half["colour"]["tail"]),
        {name: agreed(attributes[name]["near"]) for name in attributes},
        {name: agreed(attributes[name]["tail"]) for name in attributes},
        {style: agreed(ways["near"]) for style, ways in half["styles"].items()},
        agreed(half["determiners"]["some"]),
    )


def _agreed(pattern: str, gender: str) -> str:
    return re.sub(r"(\w+)\*", lambda word: agree(word[1], gender), pattern)


def agree(adjective: str, gender: str) -> str:
    """A Ukrainian adjective, given as masculine or neuter nominative, in the nominative of a gender or the plural."""
    if adjective in _IRREGULAR:
        return _IRREGULAR[adjective][GENDERS.index(gender)]
    if adjective.endswith(("ій", "є")):
        return adjective[: -2 if adjective.endswith("й") else -1] + _SOFT[gender]
    return adjective[: -2 if adjective.endswith("й") else -1] + _HARD[gender]


@cache
def fillers(language: str) -> frozenset[str]:
    """The adjectives that go with anything, in lower case and every form."""
    found: set[str] = set()
    for held in (False, True):
        for modifiers in lexicon(language, held).modifiers.values():
            found |= {pattern.replace("{n}", "").strip().lower() for pattern in modifiers.adjectives}
            if language in ("zh", "ja"):
                found |= {word.removesuffix("的") for word in found}
    return frozenset(found)
