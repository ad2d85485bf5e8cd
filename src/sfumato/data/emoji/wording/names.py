"""The names of a concept in a language, and what is needed to count and decline them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Literal

from sfumato.data.emoji.captions import Concept
from sfumato.data.emoji.nouns import Noun, nouns
from sfumato.data.emoji.wording import declension, english, ukrainian

TYPO_LANGUAGES = ("en", "id", "uk")
EMOJI_SHARE = 0.04
EMOJI_BESIDE_SHARE = 0.02
OTHER_SHARE = 0.35

_LETTERS = {
    "en": "abcdefghijklmnopqrstuvwxyz",
    "id": "abcdefghijklmnopqrstuvwxyz",
    "uk": "абвгґдеєжзиіїйклмнопрстуфхцчшщьюя",
}
# Thai, Chinese, Indonesian and Japanese counters for a person, an animal and a thing.
_COUNTERS = {
    "th": ("คน", "ตัว", "อัน"),
    "zh": ("个", "只", "个"),
    "id": ("orang", "ekor", "buah"),
    "ja": ("人", "匹", "個"),
}
# Words that count one thing or another.
COUNTERS = {
    "th": (
        "อัน",
        "ตัว",
        "ลูก",
        "ใบ",
        "คัน",
        "ดวง",
        "ชิ้น",
        "ต้น",
        "ดอก",
        "หลัง",
        "เล่ม",
        "ลำ",
        "เม็ด",
        "แผ่น",
        "คน",
        "เครื่อง",
        "คู่",
    ),
    "zh": tuple("个只把条颗朵张辆座棵本块头匹位支件份根片顶艘架台枚粒株盏匙口"),
    "id": ("buah", "ekor", "biji", "orang", "batang", "lembar", "butir", "helai", "tangkai", "potong", "unit"),
    "ja": tuple("個つ匹本枚台頭羽冊人輪杯体足軒機隻粒株玉"),
}


@dataclass(frozen=True)
class Name:
    """One name of a thing, without article.

    `plural` is the name of several, None if the language has no such form or it is not known. `counter` is the word
    that counts it. `countable` says whether an English article may stand before it. `gender` is Ukrainian: m, f, n or
    p. `cases` is Ukrainian, too: the name in a case and the form of adjectives with it, by the case's letter: v
    accusative, w genitive, o instrumental, and M for the genitive plural, which five or more take. `two` is Ukrainian
    for "two" beside the plural.
    """

    text: str
    plural: str | None = None
    counter: str = ""
    countable: bool = True
    gender: str = "m"
    cases: dict[str, tuple[str, str]] = field(default_factory=dict)
    two: str = ""


@cache
def _nouns() -> dict[str, Noun]:
    return {noun.hex: noun for noun in nouns()}


def kind(concept: Concept) -> Literal["person", "animal", "thing"]:
    """Returns the kind of a concept, on which its counters and its Ukrainian accusative depend."""
    if concept.subgroup.startswith(("person", "family")) and concept.subgroup != "person-symbol":
        return "person"
    return "animal" if concept.subgroup.startswith("animal") else "thing"


def names(concept: Concept, language: str) -> tuple[Name, ...]:
    """Returns the name from the set, then the further names of `nouns.tsv`, each once."""
    return _names(concept.hex, concept.names[language], language, kind(concept), concept.group)


@cache
def _names(hex: str, name: str, language: str, kind: str, group: str) -> tuple[Name, ...]:
    noun = _nouns().get(hex)
    known = (noun, *noun.others) if noun else ()
    others = {entry.names[language]: entry for entry in known}
    texts = dict.fromkeys((name, *others))
    return tuple(_name(text, others.get(text), language, kind, group) for text in texts)


def _name(text: str, noun: Noun | None, language: str, kind: str, group: str) -> Name:
    match language:
        case "en":
            # Names of symbols are mostly labels: "plus", not "a plus".
            label = group == "symbols" and not text.endswith(
                ("button", "arrow", "sign", "symbol", "circle", "square", "diamond", "mark", "cross", "star", "badge")
            )
            many = noun.plural if noun else english.plural(text)
            return Name(text, many, countable=english.countable(text) and not label)
        case "uk":
            gender = ukrainian.gender(text)
            several = declension.plurals(text)
            two, _, many = noun.two.partition(" ") if noun else ("дві" if gender == "f" else "два", "", "")
            many = many or (several[0] if several else "")
            alive = kind != "thing"
            cases = {
                "v": ukrainian.accusative(text, alive),
                "w": ukrainian.genitive(text, alive),
                "o": declension.instrumental(text),
                "M": (several[1], "pg") if several else None,
            }
            known = {slot: found for slot, found in cases.items() if found}
            return Name(text, many or None, "", True, gender, known, two if many else "")
        case _:
            counter = noun.counters.get(language) if noun else None
            return Name(text, None, counter or _COUNTERS[language][("person", "animal", "thing").index(kind)])


def typo(text: str, language: str, rng: Random) -> str:
    """Returns the text with one slip of the fingers: letters swapped, dropped, doubled or replaced.

    Thai, Chinese and Japanese lose a space instead, or get letters of double width.
    """
    if language not in TYPO_LANGUAGES:
        return text.replace(" ", "", 1) if " " in text else _wide(text)
    places = [i for i in range(1, len(text)) if text[i - 1 : i + 1].isalpha()]
    if len(places) < 3:
        return text
    i = rng.choice(places)
    match rng.randrange(4):
        case 0:
            return text[: i - 1] + text[i] + text[i - 1] + text[i + 1 :]
        case 1:
            return text[:i] + text[i + 1 :]
        case 2:
            return text[:i] + text[i] + text[i:]
        case _:
            return text[:i] + rng.choice(_LETTERS[language]) + text[i + 1 :]


def slip(text: str, language: str, rng: Random) -> str:
    """Returns a text with one slip of the fingers in any of its longer words, or a space that is lost."""
    words = text.split(" ")
    if len(words) > 1 and rng.random() < 0.25:
        place = rng.randrange(1, len(words))
        return " ".join([*words[: place - 1], words[place - 1] + words[place], *words[place + 1 :]])
    longer = [k for k, word in enumerate(words) if len(word) > 3]
    if longer and language in TYPO_LANGUAGES:
        place = rng.choice(longer)
        words[place] = typo(words[place], language, rng)
    return " ".join(words)


def _wide(text: str) -> str:
    return "".join(chr(ord(char) + 0xFEE0) if char.isascii() and char.isalnum() else char for char in text)
