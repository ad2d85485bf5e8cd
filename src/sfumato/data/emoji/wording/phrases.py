"""All phrases that name a concept or a keyword of it, for a lexicon."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from sfumato.data.emoji.captions import COLOURS, LANGUAGES, STYLE_WORDS, Concept
from sfumato.data.emoji.wording.names import names
from sfumato.nets.lexicon import phrase_form

MOST = 100  # concepts that share a keyword; what more share tells next to nothing


def phrases(concepts: Mapping[int, Concept]) -> Iterator[tuple[str, int, bool]]:
    """Yields the phrases of concepts, each with the number of a concept and whether it is a name of it.

    Names come in all known forms, such as plurals and Ukrainian cases. Words for colours and styles are left out,
    because prompts use them for other things.
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
            for word in concept.keywords[language]:
                said_of[word.casefold()].add(number)
    for phrase, numbers in named.items():
        yield from ((phrase, number, True) for number in sorted(numbers))
    silent = _other_words()
    for phrase, numbers in said_of.items():
        if phrase_form(phrase) not in silent and len(numbers) <= MOST:
            yield from ((phrase, number, False) for number in sorted(numbers - named.get(phrase, set())))


def _other_words() -> set[str]:
    """Returns the forms of the words that prompts use for colours, styles and pictures."""
    words = {word for colour in COLOURS for word in (*colour.words.values(), colour.locative)}
    words |= {word for styles in STYLE_WORDS.values() for several in styles.values() for word in several}
    return {phrase_form(word) for word in words} | {"emoji", "icon", "picture", "image", "drawing"}
