"""118 things with hand-made names, and how each language names and counts them."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

from sfumato.data.emoji.captions import Colour

# Colours that an object may be given, by their names in `captions.COLOURS`.
TINTS = ("red", "orange", "yellow", "green", "blue", "purple", "pink")
_LIKE = {"lavender": "purple", "turquoise": "green"}  # shades whose names do not say it

# Two, three, four; in Ukrainian two agrees with the noun.
NUMBERS = {
    "en": ("two", "three", "four"),
    "th": ("2", "3", "4"),
    "zh": ("两", "三", "四"),
    "id": ("dua", "tiga", "empat"),
    "uk": ("два", "три", "чотири"),
    "ja": ("2", "3", "4"),
}

# The Japanese colours that are adjectives of their own; the others take "の".
JAPANESE_ADJECTIVES = ("赤", "青", "黄色", "白", "黒")


def tint_of(colour: str) -> int:
    """Returns the place among TINTS of what is nearest to a named colour, plus 1; 0 for those without a hue."""
    tint = _LIKE.get(colour, colour.split(" ")[-1])
    return 1 + TINTS.index(tint) if tint in TINTS else 0


@dataclass(frozen=True)
class Noun:
    """The name of a thing in each language, and what counting it takes.

    `emoji` shows the thing. `counters` are the words that Thai, Chinese and Japanese count it with, `plural` is
    English, `two` is the whole Ukrainian phrase "two of them". `others` are further names of the same thing.
    """

    emoji: str
    names: dict[str, str]
    counters: dict[str, str]
    plural: str
    two: str
    others: tuple[Noun, ...] = ()

    @property
    def hex(self) -> str:
        """The code of the concept that shows the thing, as in `captions.Concept.hex`."""
        return "-".join(f"{ord(char):x}" for char in self.emoji)

    def phrase(self, language: str, colour: Colour | None = None, size: str | None = None) -> str:
        """Returns the name without an article: "big blue apple"; `size` is "big", "small" or None."""
        return _described(self.names[language], language, colour, size)

    def counted(self, language: str, count: int, colour: Colour | None = None) -> str:
        """Returns the phrase for two to four of the thing: "three blue apples"."""
        number = NUMBERS[language][count - 2]
        match language:
            case "en":
                return f"{number} {_described(self.plural, language, colour)}"
            case "th":
                return f"{self.phrase(language, colour)} {number} {self.counters[language]}"
            case "zh":
                return f"{number}{self.counters[language]}{self.phrase(language, colour)}"
            case "ja":
                return f"{number}{self.counters[language]}の{self.phrase(language, colour)}"
            case "uk":
                two, _, many = self.two.partition(" ")
                return _described(f"{two if count == 2 else number} {many}", language, colour)
            case _:
                return f"{number} {self.phrase(language, colour)}"


@cache
def nouns() -> tuple[Noun, ...]:
    """Returns all things in the order of `nouns.tsv`: the first line of an emoji is its noun, further lines are
    `others`."""
    table = (resources.files("sfumato.data.emoji") / "nouns.tsv").read_text(encoding="utf-8")
    lines: dict[str, list[Noun]] = {}
    for row in csv.DictReader(table.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE):
        noun = Noun(
            row["emoji"],
            {language: row[language] for language in NUMBERS},
            {language: row[f"{language}_counter"] for language in ("th", "zh", "ja")},
            row["en_plural"],
            row["uk_two"],
        )
        lines.setdefault(noun.emoji, []).append(noun)
    return tuple(replace(first, others=tuple(others)) for first, *others in lines.values())


def _described(noun: str, language: str, colour: Colour | None, size: str | None = None) -> str:
    """Returns the noun with its colour and its size, each where the language puts it."""
    hue = colour.words[language] if colour else ""
    big = size == "big"
    match language:
        case "en":
            return " ".join(word for word in (size, hue, noun) if word)
        case "th":
            return noun + (f"สี{hue}" if hue else "") + (f"ขนาด{'ใหญ่' if big else 'เล็ก'}" if size else "")
        case "zh":
            return (f"{'大' if big else '小'}的" if size else "") + hue + noun
        case "id":
            return " ".join(word for word in (noun, hue, size and ("besar" if big else "kecil")) if word)
        case "uk":
            # The genitives "of blue colour" and "of large size" agree with no noun.
            said = f" {colour.locative.removesuffix('ому')}ого кольору" if colour else ""
            return noun + said + (f" {'великого' if big else 'малого'} розміру" if size else "")
        case _:
            adjective = (hue + ("い" if hue in JAPANESE_ADJECTIVES else "の")) if hue else ""
            return (f"{'大きな' if big else '小さな'}" if size else "") + adjective + noun
