"""Saying the things of a request: their names, numbers and attributes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from sfumato.data.emoji.captions import Colour
from sfumato.data.emoji.wording import english, forms
from sfumato.data.emoji.wording.asked import Asked, Thing
from sfumato.data.emoji.wording.forms import counted_form
from sfumato.data.emoji.wording.lexicon import Half, Modifiers, lexicon
from sfumato.data.emoji.wording.names import (
    COUNTERS,
    EMOJI_BESIDE_SHARE,
    EMOJI_SHARE,
    OTHER_SHARE,
    TYPO_LANGUAGES,
    Name,
    names,
    typo,
)
from sfumato.data.emoji.wording.pseudo import pseudo_adjective
from sfumato.data.emoji.wording.ranked import plainer

TYPO_SHARE = 0.08
WIDE_SHARE = 0.02
PLURAL_SHARE = 0.1
ADJECTIVE_SHARE = {False: 0.25, True: 0.08}
PSEUDO_SHARE = {False: 0.04, True: 0.02}
SECOND_ADJECTIVE_SHARE = 0.2
TAIL_SHARE = 0.25
COLOUR_SYNONYM_SHARE = 0.25
OTHER_COUNTER_SHARE = 0.15
COLLECTIVE_SHARE = 0.25

# How often a single thing gets a determiner, where the language does not ask for one; English mostly says "a".
DETERMINED_SHARE = {"en": 0.35, "th": 0.2, "zh": 0.5, "id": 0.4, "uk": 0.12, "ja": 0.1}
ARTICLES = ("a", "a", "a", "some", "bare")
# What ends a modifier that may stand before another one.
JOINERS = {"zh": "的}", "ja": "のないたき}"}


@dataclass(frozen=True)
class Phrase:
    """A thing in words: with a determiner or without, as the frame wants it."""

    bare: str
    determined: str


class ThingSpeaker:
    """The things of one request on their way into words."""

    def __init__(self, asked: Asked, language: str, rng: Random, held: bool, plain: bool) -> None:
        self.asked, self.language, self.rng, self.held, self.plain = asked, language, rng, held, plain
        self.half: Half = lexicon(language, held)
        self.several = len(asked.things) > 1
        self.way: str | None = None  # how the style is said
        self.article = rng.choice(ARTICLES)

    def pick(self, patterns: Sequence[str]) -> str:
        """One of the patterns; in training the plain ones more often."""
        return self.rng.choice(patterns) if self.held else plainer(tuple(patterns), self.rng, self.plain)

    def thing(self, thing: Thing, case: str | None) -> Phrase:
        rng = self.rng
        known = names(thing.concept, self.language)
        name = known[0]
        if len(known) > 1 and not case and rng.random() < OTHER_SHARE:
            name = rng.choice(known[1:])
        text, gender, numbers = self._called(thing, name, case)
        if text is None:
            return Phrase(thing.concept.emoji, thing.concept.emoji)
        many = thing.count > 1
        modifiers = self.half.modifiers[gender]
        text, tail = self._described(text, thing, modifiers, gender)
        if many:
            text = self._counted(text, f"{numbers}.{thing.count}", name)
        bare = self._tailed(text, tail, thing, gender)
        if many or (self.article == "bare" and self.language == "en"):
            return Phrase(bare, bare)
        return Phrase(bare, self._tailed(self._determined(text, name, modifiers), tail, thing, gender))

    def _called(self, thing: Thing, name: Name, case: str | None) -> tuple[str | None, str, str]:
        """The name in the form that is wanted (None: its emoji), the gender that goes with it, and the table of its
        numbers, which one thing has none of."""
        if thing.count > 1:
            return counted_form(name, thing.count, not self.held and self.rng.random() < COLLECTIVE_SHARE)
        return (*name.cases[case], "") if case else (*self._alone(thing, name), "")

    def _alone(self, thing: Thing, name: Name) -> tuple[str | None, str]:
        """The name of one thing in some form (None: its emoji), and the gender that goes with it."""
        rng, language = self.rng, self.language
        text = name.text
        if not self.several and not self.held:
            chance = rng.random()
            if chance < EMOJI_SHARE:
                return None, "m"
            if chance < EMOJI_SHARE + (TYPO_SHARE if language in TYPO_LANGUAGES else WIDE_SHARE):
                return typo(text, language, rng), name.gender
            if chance > 1 - EMOJI_BESIDE_SHARE:
                return f"{text} {thing.concept.emoji}", name.gender
            if chance > 1 - EMOJI_BESIDE_SHARE - PLURAL_SHARE and self.article == "bare":
                return self._plural(name)
        return text, name.gender

    def _plural(self, name: Name) -> tuple[str, str]:
        """The name as people say it of things in general: "apples"."""
        if name.plural:
            return name.plural, "p"
        return f"{name.text}-{name.text}" if self.language == "id" and name.text.isalpha() else name.text, name.gender

    def _described(self, text: str, thing: Thing, modifiers: Modifiers, gender: str) -> tuple[str, str | None]:
        """The name with what is said of it nearby, and the pattern of a tail or None."""
        rng = self.rng
        attributes = [attribute for attribute in (thing.pose, thing.size) if attribute]
        tail, plain = None, text
        said = ["colour"] if thing.colour else []
        said += attributes
        tailed = rng.choice(said) if said and rng.random() < TAIL_SHARE else None
        for what in said:
            colour = what == "colour"
            if what == tailed:
                tail = self.pick(modifiers.colour_tail if colour else modifiers.attributes_tail[what])
                continue
            pattern = self._fitting(modifiers.colour if colour else modifiers.attributes[what], text == plain)
            text = pattern.format(n=text, **self.colour_words(thing.colour, gender)) if colour else _put(pattern, text)
        if self.way == "near" and self.asked.style:
            text = _put(self.pick(modifiers.styles[self.asked.style]), text)
        chance = rng.random()
        if self.plain:
            return text, tail
        if chance < ADJECTIVE_SHARE[self.several]:
            text = _put(rng.choice(modifiers.adjectives), text)
            if not self.several and rng.random() < SECOND_ADJECTIVE_SHARE:
                text = _put(rng.choice(modifiers.adjectives), text)
        elif chance > 1 - PSEUDO_SHARE[self.several]:
            text = pseudo_adjective(text, self.language, rng, self.held, gender)
        return text, tail

    def _fitting(self, patterns: Sequence[str], plain: bool) -> str:
        """One of the patterns; in Chinese and Japanese those that make one word with the noun take only a plain one."""
        pattern = self.pick(patterns)
        while (
            not plain
            and pattern.endswith("{n}")
            and self.language in JOINERS
            and pattern[-4] not in JOINERS[self.language]
        ):
            pattern = self.pick(patterns)
        return pattern

    def _tailed(self, text: str, pattern: str | None, thing: Thing, gender: str) -> str:
        if pattern is None:
            return text
        name = thing.concept.names[self.language]
        many = thing.count > 1 or (self.language == "en" and name.endswith("s") and not english.countable(name))
        colour = self.colour_words(thing.colour, gender) if thing.colour else {}
        return pattern.format(n=text, its="their" if many else "its", **{"is": "are" if many else "is"}, **colour)

    def _counted(self, text: str, table: str, name: Name) -> str:
        pattern = self.pick(self.half.tables[table])
        return pattern.format(n=text, k=self._counter(name), two=name.two)

    def _counter(self, name: Name) -> str:
        """The word that counts a thing; in training at times another one, since people do not agree on them."""
        others = COUNTERS.get(self.language)
        if others and not self.held and self.rng.random() < OTHER_COUNTER_SHARE:
            return self.rng.choice(others)
        return name.counter

    def _determined(self, text: str, name: Name, modifiers: Modifiers) -> str:
        rng = self.rng
        english_article = self.language == "en"
        if english_article and self.article == "a":
            if rng.random() < 0.08:
                return _put(rng.choice(self.half.tables["numbers.1"]), text) if name.countable else text
            return english.with_article(text) if name.countable else text
        if english_article or rng.random() < DETERMINED_SHARE[self.language]:
            return rng.choice(modifiers.determiners).format(n=text, k=self._counter(name))
        return text

    def colour_words(self, colour: Colour | None, gender: str = "n") -> dict[str, str]:
        """A colour in every form that the patterns of the language take."""
        assert colour is not None
        word = colour.words[self.language]
        synonyms = self.half.tables.get(f"colours.{colour.name}")
        if synonyms and self.rng.random() < COLOUR_SYNONYM_SHARE:
            word = self.rng.choice(synonyms)
        return forms.colour_words(colour, word, self.language, gender)


def _put(pattern: str, text: str) -> str:
    return pattern.replace("{n}", text)
