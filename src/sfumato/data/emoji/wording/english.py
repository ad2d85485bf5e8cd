"""Articles and plurals of the English names in the emoji set."""

from __future__ import annotations

from functools import cache

from sfumato.data.emoji.wording.word_list import word_list

_LINKS = word_list(
    """
    with of in on without behind at from for facing fluttering showing getting over not pointed curling wearing
    holding tilted done off and up
    """
)
_PEOPLE = {"person": "people", "man": "men", "woman": "women"}
# Nouns that a word such as "exhaling" or "increasing" may follow.
_DOERS = frozenset(
    ["face", "chart", "index", "arrow", "person", "man", "woman", "people", "men", "women", "page", "leaf", "couple"]
)
_IRREGULAR = _PEOPLE | {
    "mouse": "mice",
    "child": "children",
    "foot": "feet",
    "tooth": "teeth",
    "goose": "geese",
    "ox": "oxen",
    "die": "dice",
    "merman": "mermen",
    "merperson": "merpeople",
    "snowman": "snowmen",
    "leaf": "leaves",
    "sheaf": "sheaves",
    "knife": "knives",
    "wolf": "wolves",
    "elf": "elves",
    "scarf": "scarves",
    "cactus": "cacti",
    "potato": "potatoes",
    "tomato": "tomatoes",
    "mango": "mangoes",
    "volcano": "volcanoes",
    "tornado": "tornadoes",
    "mosquito": "mosquitoes",
    "buffalo": "buffaloes",
    "superhero": "superheroes",
}
_UNCHANGED = word_list(
    """
    fish deer moose bison sheep shrimp squid blowfish jellyfish people men women feet sushi bread bacon salt butter
    broccoli garlic popcorn spaghetti ice wood soap coral oden fondue yarn thread rice food sake milk luggage fog
    dango dna money
    """
)
_SINGULAR_S = ("ss", "us", "is", "as", "os")
# What is not counted takes no article: by its head, and by the whole name.
_UNCOUNTED = word_list(
    """
    bread bacon salt butter broccoli garlic popcorn spaghetti sushi ice wood soap coral oden fondue yarn thread rice
    food sake milk luggage fog mate tennis bowling badminton lacrosse camping baseball softball basketball
    volleyball football hockey polish cooking fire wrestling fencing customs dna money clothes
    """
)
# Names that are phrases, adjectives or signs: "two infinity symbols", "warning".
_PHRASES = word_list(
    """
    rolling on the floor laughing | star-struck | head shaking horizontally | head shaking vertically | dashing away
    | dizzy | hundred points | palms up together | horse racing | construction | building construction | SOON arrow
    | BACK arrow | END arrow | ON! arrow | TOP arrow | milky way | high voltage | performing arts | passport control
    | left luggage | baggage claim | potable water | non-potable water | radioactive | biohazard | warning |
    prohibited | children crossing | multiply | plus | minus | divide | infinity | copyright | registered |
    information | foggy | locked | unlocked | locked with pen | locked with key | trade mark | ginger root | leafy
    green | ping pong | pouring liquid | mount fuji | meat on bone | vibration mode | mobile phone off | currency
    exchange | om | yin yang | kaaba | light rail | wireless | breast-feeding | speaker low volume | speaker medium
    volume | speaker high volume | ZZZ | circled M | cinema | customs | water closet | oncoming | two hearts | heavy
    equals sign
    """,
    "|",
)


@cache
def plural(name: str) -> str:
    """Returns the plural: "face with tongue" -> "faces with tongue", "woman feeding baby" -> "women feeding baby"."""
    if name in _PHRASES or name.startswith(("no ", "input ", "keycap")):
        return f"{name} symbols"
    head, separator, rest = name.partition(":" if ":" in name else " (")
    words = head.split(" ")
    at = _head(words)
    words[at] = _several(words[at])
    if at + 2 < len(words) and words[at + 1] == "and":
        words[at + 2] = _several(words[at + 2])
    if at == len(words) - 1 and at > 0 and words[0] in ("man", "woman"):
        words[0] = _PEOPLE[words[0]]
    return " ".join(words) + separator + rest


@cache
def countable(name: str) -> bool:
    """Returns whether people would put "a" in front of the name."""
    words = name.partition(":")[0].partition(" (")[0].split(" ")
    head = words[_head(words)]
    if name in _PHRASES or head.lower() in _UNCOUNTED or name.startswith(("no ", "input ", "keycap")):
        return False
    if head in ("people", "men", "women", "teeth") or (head[0].isupper() and head != "T-Rex"):
        return False
    return not head.endswith("s") or head.endswith((*_SINGULAR_S, "’s"))


def with_article(phrase: str) -> str:
    """Returns the phrase with its article: "umbrella" -> "an umbrella"."""
    low = phrase.lower()
    vowel = low[0] in "aeiou" and not low.startswith(("uni", "one-", "one ", "eu", "ufo", "use"))
    return f"{'an' if vowel or low.startswith(('x-ray', 'hour', 'sos ', 'ng ')) else 'a'} {phrase}"


def _head(words: list[str]) -> int:
    """Returns the place of the noun that the other words describe."""
    for i in range(1, len(words)):
        if words[i] in _LINKS and words[i - 1] not in ("palm", "thumbs", "fast"):
            return i - 1
        if words[i].endswith("ing") and words[i - 1] in _DOERS:
            return i - 1
        if words[i - 1] in _PEOPLE and words[i + 1 : i + 2] and words[i + 1].endswith("ing"):
            return i - 1
    return len(words) - 1


def _several(noun: str) -> str:
    """Returns the plural of one word."""
    low = noun.lower()
    if low in _UNCHANGED or (low.endswith("s") and not low.endswith(_SINGULAR_S) and len(low) > 2):
        return noun
    if low in _IRREGULAR:
        return _IRREGULAR[low]
    if low.endswith(("s", "x", "z", "ch", "sh")):
        return noun + "es"
    if low.endswith("y") and low[-2:-1] not in tuple("aeiou") and noun.islower():
        return noun[:-1] + "ies"
    return noun + "s"
