"""Instrumental and plurals of the Ukrainian names in the set: "над котом", "три коти", "п'ять котів"."""

from __future__ import annotations

import re
from functools import cache

from sfumato.data.emoji.wording.lexicon import agree
from sfumato.data.emoji.wording.ukrainian import gender, is_neuter_unchanged, is_plain, masculine_genitive, split_owned

_HUSHING = "жчшщ"
_VOWELS = "аеиіоуєїюя"
# Two consonants that nothing is put between: "мавпа", "мавп".
_FIRM_CLUSTERS = (
    "ст",
    "пт",
    "кт",
    "вп",
    "рт",
    "лт",
    "нт",
    "зд",
    "рд",
    "мп",
    "рб",
    "рх",
    "нд",
    "кс",
    "фт",
    "лб",
    "рф",
    "рп",
)
_PLURALS = {
    "око": ("очі", "очей"),
    "вухо": ("вуха", "вух"),
    "людина": ("люди", "людей"),
    "дитина": ("діти", "дітей"),
    "курча": ("курчата", "курчат"),
    "пташеня": ("пташенята", "пташенят"),
    "немовля": ("немовлята", "немовлят"),
    "миша": ("миші", "мишей"),
    "свиня": ("свині", "свиней"),
    "вівця": ("вівці", "овець"),
    "корова": ("корови", "корів"),
    "бджола": ("бджоли", "бджіл"),
    "гора": ("гори", "гір"),
    "нога": ("ноги", "ніг"),
    "серце": ("серця", "сердець"),
    "яйце": ("яйця", "яєць"),
    "собака": ("собаки", "собак"),
    "кінь": ("коні", "коней"),
    "гість": ("гості", "гостей"),
    "суддя": ("судді", "суддів"),
}


@cache
def instrumental(name: str) -> tuple[str, str] | None:
    """Returns the name in the instrumental, and the form of adjectives with it: "ракета" -> "ракетою", "fi".

    Returns None if the ending does not decide it.
    """
    kind = gender(name)
    if kind == "p" or not is_plain(name):
        return None
    if owned := split_owned(name):
        head = instrumental(owned[0])
        return head and (f"{head[0]} {owned[1]}", head[1])
    *adjectives, noun = name.split(" ")
    if not all(_is_adjective(word) for word in adjectives):
        return None
    form = "fi" if kind == "f" else "mi"
    declined = {"f": _feminine_instrumental, "n": _neuter_instrumental, "m": _masculine_instrumental}[kind](noun)
    if declined is None:
        return None
    return " ".join([*(agree(_masculine(word), form) for word in adjectives), declined]), form


@cache
def plurals(name: str) -> tuple[str, str] | None:
    """Returns the nominative and the genitive plural: "зірка" -> "зірки", "зірок"; None if it has none that is told by
    its ending."""
    kind = gender(name)
    if kind == "p" or not is_plain(name):
        return None
    if split_owned(name):
        return None
    *adjectives, noun = name.split(" ")
    if not all(_is_adjective(word) for word in adjectives):
        return None
    found = _PLURALS.get(noun) or {"f": _feminine_plurals, "n": _neuter_plurals, "m": _masculine_plurals}[kind](noun)
    if found is None:
        return None
    several, many = ([agree(_masculine(word), form) for word in adjectives] for form in ("p", "pg"))
    return " ".join([*several, found[0]]), " ".join([*many, found[1]])


def _is_adjective(word: str) -> bool:
    return word.endswith(("ий", "ій", "а", "я", "е", "є"))


def _masculine(adjective: str) -> str:
    """The masculine of an adjective: "повітряна" -> "повітряний", "синя" -> "синій"."""
    if adjective.endswith(("ий", "ій")):
        return adjective
    return adjective[:-1] + ("ій" if adjective.endswith(("я", "є")) else "ий")


def _feminine_instrumental(noun: str) -> str | None:
    if noun.endswith("а"):
        return noun[:-1] + ("ею" if noun[-2] in _HUSHING else "ою")
    if noun.endswith("я"):
        return noun[:-1] + ("єю" if noun[-2] in _VOWELS + "ʼ’'" else "ею")
    return None


def _neuter_instrumental(noun: str) -> str | None:
    if is_neuter_unchanged(noun):
        return noun
    return noun + "м" if noun[-1] in "оея" and not noun.endswith(("ча", "ня")) else None


def _masculine_instrumental(noun: str) -> str | None:
    if noun.endswith("а"):
        return noun[:-1] + "ою"
    stem = masculine_genitive(noun)
    if stem is None:
        return None
    if stem.endswith("ого"):
        return stem[:-3] + "им"
    if stem.endswith("я"):
        return stem[:-1] + ("єм" if stem[-2] in _VOWELS else "ем")
    return stem[:-1] + ("ем" if stem[-2] in _HUSHING else "ом")


def _feminine_plurals(noun: str) -> tuple[str, str] | None:
    if noun.endswith("а"):
        stem = noun[:-1]
        return stem + ("і" if stem[-1] in _HUSHING else "и"), _opened(stem)
    if noun.endswith("я"):
        stem = noun[:-1]
        if stem[-1] in _VOWELS:
            return stem + "ї", stem + "й"
        return stem + "і", _opened(stem, "е") + "ь"
    return (noun[:-1] + "і", noun[:-1] + "ей") if noun.endswith("ь") else None


def _neuter_plurals(noun: str) -> tuple[str, str] | None:
    if is_neuter_unchanged(noun):
        return noun, noun
    if noun.endswith("о"):
        return noun[:-1] + "а", _opened(noun[:-1])
    if noun.endswith("це"):
        return noun[:-1] + "я", _opened(noun[:-1], "е")
    if re.search(r"(.)\1я$", noun):
        return noun, noun[:-2] + ("" if noun[-2] in _HUSHING else "ь")
    return None


def _masculine_plurals(noun: str) -> tuple[str, str] | None:
    stem = masculine_genitive(noun)
    if stem is None or noun.endswith("а"):
        return None
    if stem.endswith("ого"):
        return stem[:-3] + "і", stem[:-3] + "их"
    if stem.endswith("я"):
        soft = stem[-2] in _VOWELS
        return stem[:-1] + ("ї" if soft else "і"), stem[:-1] + ("їв" if soft else "ів")
    return stem[:-1] + ("і" if stem[-2] in _HUSHING else "и"), stem[:-1] + "ів"


def _opened(stem: str, vowel: str = "о") -> str:
    """A stem without its ending; where two consonants would close it, a vowel comes between: "зірк" -> "зірок"."""
    hard = len(stem) > 2 and stem[-1] not in _VOWELS and stem[-2] not in _VOWELS
    if not hard or stem.endswith(_FIRM_CLUSTERS):
        return stem
    return stem[:-1] + vowel + stem[-1] if stem[-1] in "кнлрц" else stem
