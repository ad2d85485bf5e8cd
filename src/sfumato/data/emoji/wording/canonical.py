"""The plainest way to ask, for evaluation: the first pattern of every table."""

from __future__ import annotations

from sfumato.data.emoji.wording import english
from sfumato.data.emoji.wording.asked import Asked, Thing
from sfumato.data.emoji.wording.forms import COMMAS, LIST_COMMAS, case_slots, colour_words, counted_form, row_patterns
from sfumato.data.emoji.wording.lexicon import lexicon
from sfumato.data.emoji.wording.names import names

# Where the background stands behind a comma and not in a phrase.
BEHIND_COMMA = ("zh", "ja")


def canonical(asked: Asked, language: str, turned: bool = False) -> str:
    """The plainest way: "a red cat to the left of a dog, 3d render on a blue background"; a thing that is asked for by
    nothing but its name and its style goes without an article, as in "rocket, 3d render".

    `turned` says where two things lie from the other one: "a dog to the right of a red cat".
    """
    tables = lexicon(language, False).tables
    bare = asked.arrangement == "one" and asked.place is None and asked.ground is None
    parts = [_thing(thing, language, article=not bare or _described(thing)) for thing in asked.things]
    match asked.arrangement:
        case "one":
            text = tables[f"places.{asked.place}"][0].format(a=parts[0]) if asked.place else parts[0]
        case "row":
            listed = LIST_COMMAS[language][0].join(parts[:-1]) + tables["joins.last"][0] + parts[-1]
            text = row_patterns(tables["relations.row"], len(parts))[0].format(list=listed)
        case arrangement:
            patterns = [pattern for pattern in tables[f"relations.{arrangement}"] if not case_slots(pattern)]
            pattern = next(one for one in patterns if _swapped(one) != _swapped(patterns[0])) if turned else patterns[0]
            text = pattern.format(a=parts[0], b=parts[1])
    if asked.style:
        text += COMMAS[language] + tables[f"styles.{asked.style}.noun"][0]
    if asked.ground:
        words = colour_words(asked.ground, asked.ground.words[language], language)
        if language in BEHIND_COMMA:
            text += COMMAS[language] + tables["ground.comma"][0].format(**words)
        else:
            pattern = tables["ground.tail"][0]
            text = (pattern if "{x}" in pattern else "{x} " + pattern).format(x=text, **words)
    return text


def _swapped(pattern: str) -> bool:
    """Whether a relation names its second thing first."""
    return pattern.index("{b}") < pattern.index("{a}")


def _described(thing: Thing) -> bool:
    return bool(thing.colour or thing.size or thing.pose)


def _thing(thing: Thing, language: str, article: bool) -> str:
    half = lexicon(language, False)
    name = names(thing.concept, language)[0]
    many = thing.count > 1
    text, gender, table = counted_form(name, thing.count) if many else (name.text, name.gender, "")
    modifiers = half.modifiers[gender]
    if thing.colour:
        words = colour_words(thing.colour, thing.colour.words[language], language, gender)
        text = modifiers.colour[0].format(n=text, **words)
    for attribute in (thing.pose, thing.size):
        if attribute:
            text = modifiers.attributes[attribute][0].format(n=text)
    if many:
        return half.tables[f"{table}.{thing.count}"][0].format(n=text, k=name.counter, two=name.two)
    return english.with_article(text) if article and language == "en" and name.countable else text
