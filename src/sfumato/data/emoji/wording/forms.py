"""Forms of words that the patterns of each language need."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from sfumato.data.emoji.captions import Colour
from sfumato.data.emoji.nouns import JAPANESE_ADJECTIVES
from sfumato.data.emoji.wording import english
from sfumato.data.emoji.wording.lexicon import agree
from sfumato.data.emoji.wording.names import Name

COMMAS = {"en": ", ", "th": ", ", "zh": "，", "id": ", ", "uk": ", ", "ja": "、"}
# Between things in a list, the plainest first, and lists that do not say that their things are in a row.
LIST_COMMAS = {"en": (", ",), "th": (", ", " "), "zh": ("、", "，"), "id": (", ",), "uk": (", ",), "ja": ("と", "、")}
PLAIN_LISTS = ("{list}", "{comma}", "{ands}")


def colour_words(colour: Colour, word: str, language: str, gender: str = "n") -> dict[str, str]:
    """Returns the forms of a colour that patterns need, by slot.

    {c} is the `word` as it stands beside a noun. English has {a} with the article, Chinese {k} without "色", Japanese
    {i} as it stands before a noun, and Ukrainian {m} masculine, {l} locative, {g} genitive and {i} instrumental.
    """
    match language:
        case "en":
            return {"c": word, "a": english.with_article(word)}
        case "zh":
            return {"c": word, "k": word.removesuffix("色")}
        case "ja":
            return {"c": word, "i": word + ("い" if word in JAPANESE_ADJECTIVES else "の")}
        case "uk":
            stem, masculine = colour.locative.removesuffix("му"), agree(word, "m")
            ending = "ім" if masculine.endswith("ій") else "им"
            return {
                "c": agree(word, gender),
                "m": masculine,
                "l": colour.locative,
                "g": stem + "го",
                "i": masculine[:-2] + ending,
            }
        case _:
            return {"c": word}


def counted_form(name: Name, count: int, collective: bool = False) -> tuple[str, str, str]:
    """Returns a name as two or more of it are said, the gender that goes with it, and the table of its numbers.

    `collective` says fewer than five as Ukrainian says more, "пара котів" and not "два коти".
    """
    if (count > 4 or collective) and "M" in name.cases:
        return (*name.cases["M"], "numbers_many")
    text, gender = (name.plural, "p") if name.plural else (name.text, name.gender)
    return text, gender, "numbers_known" if name.two and count < 5 else "numbers"


def surface_words(surface: str, words: dict[str, str], language: str) -> dict[str, str]:
    """Returns the forms of what lies behind things, such as a wall, and of its colour, by slot.

    {s} is the noun. Ukrainian nouns come as "стіна/стіні/стіною/f" and have {sl} locative and {si} instrumental
    besides; `words` are the forms of the colour, of which those in these cases are made to agree.
    """
    if language != "uk":
        return words | {"s": surface}
    noun, locative, instrumental, gender = surface.split("/")
    agreed = {"c": agree(words["m"], gender)}
    if gender == "f":
        agreed |= {"l": words["m"][:-2] + "ій", "i": agree(words["m"], "fi")}
    return words | agreed | {"s": noun, "sl": locative, "si": instrumental}


@cache
def case_slots(pattern: str) -> dict[str, tuple[int, str]]:
    """Returns the slots of a pattern that take a thing in a case, {bw} the second one in the genitive: by the slot, the
    thing's number and the case."""
    return {thing + case: ("ab".index(thing), case) for thing, case in re.findall(r"\{([ab])([wo])\}", pattern)}


def row_patterns(patterns: Sequence[str], count: int) -> Sequence[str]:
    """Returns the patterns for a row of `count` things; two in a plain list would mean "left" instead."""
    return patterns if count > 2 else [pattern for pattern in patterns if pattern not in PLAIN_LISTS]
