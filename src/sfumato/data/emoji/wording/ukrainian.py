"""Gender, accusative and genitive of the Ukrainian names in the set, told by their endings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from sfumato.data.emoji.wording.lexicon import agree
from sfumato.data.emoji.wording.word_list import word_list

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
    немовля курча таксі ківі кенгуру селфі меню НЛО фото бікіні сарі фондю метро манго авокадо тако
    буріто саке мате каное кімоно фламінго банджо торнадо тире суші рагу янголятко пташеня
    """
)
_PLURAL_NOT = frozenset(["суші", "спагеті", "броколі"])
_NEUTER_ENDS = ("ття", "ння", "лля", "ччя", "ддя", "ззя", "сся", "ля-")
_DECLINED_NEUTER = frozenset(["курча", "пташеня", "немовля", "янголятко"])
# Nouns whose second word says of what they are: "морда кота" -> "морду кота".
_HEADS = frozenset(["морда", "голова", "склянка", "палітра", "каска", "кнопка"])
_UNCHANGING = frozenset(
    ["туманно", "заборонено", "вартова", "заборонена", "туманна", "два серця", "свинячий пʼятак", "корал", "мікроб"]
)
# Lifeless by the group of their emoji, and yet drawn as if they lived: "намалюй робота".
_LIVELY = frozenset(["робот", "привид", "прибулець", "гоблін", "сніговик", "ведмедик", "троль", "дракон", "монстр"])
_IRREGULAR = {
    "кіт": "кота",
    "кінь": "коня",
    "лебідь": "лебедя",
    "ведмідь": "ведмедя",
    "півень": "півня",
    "кріль": "кроля",
    "орел": "орла",
    "бобер": "бобра",
    "носоріг": "носорога",
    "єдиноріг": "єдинорога",
    "восьминіг": "восьминога",
    "кухар": "кухаря",
    "борець": "борця",
    "суддя": "судді",
    "собака": "собаки",
    "слухач": "слухача",
    "ніж": "ножа",
    "ніс": "носа",
    "стіл": "стола",
    "міст": "моста",
    "дім": "дому",
    "рис": "рису",
    "сніг": "снігу",
    "олень": "оленя",
    "лев": "лева",
    "пес": "пса",
    "автомобіль": "автомобіля",
}
_ADVERBS = ("широко", "трохи", "осяйно", "дуже")


@cache
def gender(name: str) -> str:
    """Returns the gender of a name, "m", "f" or "n", or "p" for a plural."""
    words = [word.strip(",:").lower() for word in name.split(" ")]
    word = words[1] if len(words) > 1 and words[0] in _ADVERBS else words[0]
    if word in _FEMININE or word.startswith("жінка-"):
        return "f"
    if word in _MASCULINE:
        return "m"
    if word in _NEUTER or word in _PLURAL_NOT or word.endswith(_NEUTER_ENDS) or word[-1] in "оеєю":
        return "n"
    if word[-1] in "иії" and not word.endswith(("ий", "ій")):
        return "p"
    return "f" if word[-1] in "ая" else "m"


@cache
def accusative(name: str, alive: bool) -> tuple[str, str] | None:
    """Returns the name in the accusative, and the form of adjectives with it: "ракета" -> "ракету", "fa".

    `alive` says whether it is a person or an animal. Returns None if the ending does not decide it.
    """
    kind = gender(name)
    if name in _UNCHANGING or name[0].isupper():
        return None
    if kind == "n" or (kind == "p" and not alive):
        return name, kind
    if kind == "m" and not alive and not _LIVELY & set(name.split(" ")):
        return name, kind
    if not is_plain(name):
        return None
    if kind == "f":
        head, *rest = name.split(" ")
        endings = {"а": "у", "я": "ю", "ь": "ь"}
        described = rest if head in _HEADS else [_ending(word, endings) for word in rest]
        return _whole([_ending(head, endings), *described], "fa")
    if kind == "p":
        return None
    if name.endswith("собака"):
        return name.replace("ий ", "ого ").removesuffix("а") + "у", "ma"
    return genitive(name, alive)


@cache
def genitive(name: str, alive: bool) -> tuple[str, str] | None:
    """Returns the name in the genitive, and the form of adjectives with it: "ракета" -> "ракети", "fg".

    Returns None if the ending does not decide it. Masculine names of things have two endings; the one that is heard
    more often stands here.
    """
    kind = gender(name)
    if not is_plain(name):
        return None
    words = name.split(" ")
    if kind == "f":
        if len(words) == 2 and not words[0].endswith(("а", "я")):
            return None
        if words[0] in _HEADS:
            return _whole([_feminine_genitive(words[0]), *words[1:]], "fg")
        return _whole([*map(_feminine_adjective, words[:-1]), _feminine_genitive(words[-1])], "fg")
    if kind == "n":
        if len(words) == 2 and not words[0].endswith(("е", "є")):
            return None
        return _whole([*(agree(word, "ma") for word in words[:-1]), _neuter_genitive(words[-1])], "ma")
    if kind == "p" or _loose_pair(name):
        return None
    noun = masculine_genitive(words[-1])
    if noun and not (alive or words[-1] in _LIVELY) and words[-1].endswith("нок"):
        noun = noun[:-1] + "у"
    return _whole([*(agree(word, "ma") for word in words[:-1]), noun], "ma")


def is_neuter_unchanged(noun: str) -> bool:
    """Returns whether a neuter noun is the same in all cases."""
    return noun in _NEUTER and noun not in _DECLINED_NEUTER


def split_owned(name: str) -> tuple[str, str] | None:
    """Returns a head and what it is of, "морда" and "кота", or None for other names."""
    head, _, owner = name.partition(" ")
    return (head, owner) if owner and head in _HEADS else None


def is_plain(name: str) -> bool:
    """Returns whether the name is one word, or an adjective and a noun, without hyphens and capitals."""
    words = name.split(" ")
    letters = "".join(words).replace("ʼ", "").replace("’", "")
    return len(words) <= 2 and letters.isalpha() and name == name.lower() and name not in _UNCHANGING


def _loose_pair(name: str) -> bool:
    """Returns whether two masculine words are something else than an adjective and its noun."""
    words = name.split(" ")
    return len(words) == 2 and not words[0].endswith(("ий", "ій"))


def _whole(words: Sequence[str | None], form: str) -> tuple[str, str] | None:
    known = [word for word in words if word is not None]
    return (" ".join(known), form) if len(known) == len(words) else None


def _ending(word: str, endings: dict[str, str]) -> str | None:
    return word[:-1] + endings[word[-1]] if word[-1] in endings else None


def _feminine_adjective(word: str) -> str:
    return word[:-1] + ("ьої" if word.endswith("ня") else "ої")


def _feminine_genitive(word: str) -> str | None:
    if word.endswith("а"):
        return word[:-1] + ("і" if word[-2] in "жчшщ" else "и")
    if word.endswith("я"):
        return word[:-1] + ("ї" if word[-2] in "аеиіоуєїʼ’" else "і")
    return None


def _neuter_genitive(word: str) -> str | None:
    if word in _NEUTER:
        return word if is_neuter_unchanged(word) else None
    if word.endswith("о"):
        return word[:-1] + "а"
    if word.endswith("е"):
        return word[:-1] + ("а" if word[-2] in "жчшщ" else "я")
    return word if word.endswith("я") else None


def masculine_genitive(word: str) -> str | None:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("ок") and len(word) > 4:
        return word[:-2] + "ка"
    if word.endswith("ень") and len(word) > 4:
        return word[:-3] + "ня"
    if word.endswith("ець"):
        return word[:-3] + ("ьця" if word[-4] == "л" else "ця")
    if word.endswith(("ий", "ій")) and not word.endswith("дій"):
        return agree(word, "ma")
    if word.endswith(("ь", "й")):
        return word[:-1] + "я"
    return word + "а" if word[-1] in "бвгґджзклмнпрстфхцчшщ" else None
