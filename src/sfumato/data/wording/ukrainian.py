"""Gender and accusative of the Ukrainian names of the set, by their endings."""

from __future__ import annotations

from functools import cache

from sfumato.data.wording.word_list import word_list

_FEMININE = frozenset(
    [
        "сіль",
        "мечеть",
        "мішень",
        "пастель",
        "нескінченність",
        "автомагістраль",
        "жінка-науковець",
        "остання",
        "тінь",
        "піч",
        "мідь",
    ]
)
_MASCULINE = frozenset(["суддя", "собака"])
_NEUTER = word_list(
    """
    немовля курча таксі ківі кенгуру селфі меню НЛО фото бікіні сарі фондю метро суші рагу янголятко пташеня
    """
)
_PLURAL_NOT = frozenset(["суші", "спагеті", "броколі"])
_NEUTER_ENDS = ("ття", "ння", "лля", "ччя", "ддя", "ззя", "сся", "ля-")
_ADVERBS = ("широко", "трохи", "осяйно", "дуже")


@cache
def gender(name: str) -> str:
    """ "m", "f", "n", or "p" for what is plural."""
    words = [word.strip(",:").lower() for word in name.split(" ")]
    word = words[1] if len(words) > 1 and words[0] in _ADVERBS else words[0]
    if word in _FEMININE:
        return "f"
    if word in _MASCULINE:
        return "m"
    if word in _NEUTER or word in _PLURAL_NOT or word.endswith(_NEUTER_ENDS) or word[-1] in "оеєю":
        return "n"
    if word[-1] in "иії" and not word.endswith(("ий", "ій")):
        return "p"
    return "f" if word[-1] in "ая" else "m"


@cache
def accusative(name: str, alive: bool) -> str | None:
    """What is drawn: "ракета" -> "ракету"; None where the ending does not tell."""
    words = name.split(" ")
    kind = gender(name)
    if len(words) > 2 or not name.replace(" ", "").replace("-", "").isalpha() or name.isupper() or "-" in name:
        return None
    if kind == "n":
        return name
    if kind == "f":
        turned = [_feminine(word) for word in words]
        return None if None in turned else " ".join(word for word in turned if word)
    if alive or name[0].isupper():
        return None
    if len(words) == 2 and not words[0].endswith(("ий", "ій", "і")):
        return None
    return name


def _feminine(word: str) -> str | None:
    if word.endswith("а"):
        return word[:-1] + "у"
    if word.endswith("я"):
        return word[:-1] + "ю"
    return word if word.endswith("ь") else None
