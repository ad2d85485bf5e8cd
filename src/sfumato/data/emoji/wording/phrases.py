"""All phrases that name a concept or a keyword of it, for a lexicon."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Set
from functools import cache

from sfumato.data.emoji.captions import LANGUAGES, Concept
from sfumato.data.emoji.wording.lexicon import SPACELESS, agree, lexicon
from sfumato.data.emoji.wording.names import names
from sfumato.data.emoji.wording.values import holds_value, parts, says_value, values
from sfumato.data.emoji.wording.word_list import word_list
from sfumato.nets.lexicon import LONGEST, NOTHING, phrase_form

AROUND = ("relations.", "places.", "numbers.", "ground.", "joins.")  # tables of wording
PICTURES = ("emoji", "icon", "picture", "image", "drawing")
# What prompts say all the time, though it is also the name of a thing or has the form of one: a bullseye is "的".
COMMON = word_list("的 加 家 ok ок одна таке потім лівий при plus плюс")
# Small words of English that are keywords of some sign or button, and say nothing in a sentence.
SMALL = word_list("a an and at by for in is it of on or the to with")
MOST = 70  # concepts that share a keyword; what more share tells next to nothing


def phrases(concepts: Mapping[int, Concept]) -> Iterator[tuple[str, int, bool]]:
    """Yields the phrases of concepts, each with the number of a concept and whether it is a name of it.

    Names come in all known forms, such as plurals and Ukrainian cases. Prompts use some words for other things. So left
    out are `COMMON` words, names that say a number or a size, keywords that say any value, and those that put a colour
    to another name of the thing. Of languages that write words together the words around names come as well, with the
    number `NOTHING`.
    """
    said_of: dict[str, set[int]] = defaultdict(set)
    named: dict[str, set[int]] = defaultdict(set)
    for number, concept in concepts.items():
        for language in LANGUAGES:
            for name in names(concept, language):
                forms = (name.text, name.plural, *(case for case, _ in name.cases.values()))
                for form in forms:
                    if form:
                        named[form.casefold()].add(number)
            for word in set(concept.keywords[language]) - SMALL:
                said_of[word.casefold()].add(number)
    for phrase, numbers in named.items():
        if phrase_form(phrase) in _unnamed():
            continue
        yield from ((phrase, number, True) for number in sorted(numbers))
    for phrase, numbers in said_of.items():
        if phrase_form(phrase) not in PICTURES and not says_value(phrase) and len(numbers) <= MOST:
            plain = _uncoloured(phrase)
            coloured = set().union(*(known.get(one, ()) for one in plain for known in (named, said_of)))
            yield from ((phrase, number, False) for number in sorted(numbers - named.get(phrase, set()) - coloured))
    known = {phrase_form(phrase) for phrase in (*named, *said_of)}
    yield from ((tag, NOTHING, False) for tag in sorted(_tags_around(known)))
    for word in sorted(_words_around() - named.keys() - said_of.keys()):
        if not holds_value(word):
            yield word, NOTHING, False


def _tags_around(known: Set[str]) -> set[str]:
    """Returns tags that are no phrase, but have one inside: of those whose forms are `known`, or one for a value."""
    tags = {
        literal.casefold()
        for language in LANGUAGES
        for template in lexicon(language, False).lists["tag"]
        for literal, _ in template.parts
    }
    forms = {tag: phrase_form(tag) for tag in tags}
    outside = {tag: form for tag, form in forms.items() if form not in known and not says_value(tag)}
    return {
        tag
        for tag, form in outside.items()
        if len(tag) <= LONGEST and (holds_value(tag) or not known.isdisjoint(parts(form)))
    }


def _uncoloured(phrase: str) -> list[str]:
    """What is left of a phrase such as "red rose" without the colour at its beginning or end, if it has one there."""
    found = []
    for colour in _colours():
        if phrase.startswith(colour):
            found.append(phrase[len(colour) :].lstrip(" いの的-"))
        if phrase.endswith(colour):
            found.append(phrase[: -len(colour)].rstrip(" 的-"))
    return found


@cache
def _colours() -> tuple[str, ...]:
    """All words for colours, in every gender of Ukrainian."""
    words = {word.casefold() for word, field, _ in values() if field == "ground"}
    forms = {
        agree(word, gender) for word in words for gender in "mfnp" if word[-2:] in ("ий", "ій") or word[-1] in "еє"
    }
    return tuple(sorted(words | forms | {f"สี{word}" for word in words if "\u0e00" <= word[0] <= "\u0e7f"}))


@cache
def _unnamed() -> frozenset[str]:
    """Returns the forms of words that are taken for no name."""
    said = (phrase for phrase, field, _ in values() if field in ("count", "size"))
    return frozenset(map(phrase_form, (*COMMON, *said)))


def _words_around() -> set[str]:
    """Returns what stands around names in the languages that write words together, such as "อยู่เหนือ"."""
    patterns = [
        pattern
        for language in SPACELESS
        for name, patterns in lexicon(language, False).tables.items()
        if name.startswith(AROUND)
        for pattern in patterns
    ]
    pieces = {piece for pattern in patterns for piece in re.split(r"\{\w+\}|[^\w\u0e00-\u0e7f]+", pattern.casefold())}
    return {piece for piece in pieces if len(piece) > 1 and not re.search("[0-9a-z]", piece)}
