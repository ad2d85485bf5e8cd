"""Prompts for pictures of the emoji set, each with what it asks for in numbers: `protocol.Prompts`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from random import Random

from sfumato.data.emoji import captions, wording
from sfumato.data.emoji.captions import COLOURS, LANGUAGES, STYLES, Concept
from sfumato.data.emoji.concept_scenes import Kind, invent_request
from sfumato.data.emoji.dataset import EmojiData
from sfumato.data.emoji.everyday import everyday
from sfumato.data.emoji.nouns import TINTS, nouns, tint_of
from sfumato.data.emoji.wording import Asked, Thing
from sfumato.data.protocol import Prompt, RequestedThing
from sfumato.nets.prior import Understood

# Shares of the prompts; the rest are requests. Plain requests say nothing but what is asked for, and seldom a style or
# a background, so that not all short prompts are names.
BARE, KEYWORDS, NOTHING, PLAIN = 0.09, 0.15, 0.03, 0.38
UNADORNED = 0.5  # share of the plain requests without colours, sizes and poses
# Share of the requests, of free and of plain ones, that are for things of `nouns`, which people ask for most.
EVERYDAY = (0.3, 0.6)
PLAIN_STYLE, PLAIN_GROUND = 0.3, 0.4  # shares of the styles and grounds that plain requests keep
# How often requests are of each kind: more of several things than pictures have, since they are harder to read.
KINDS: dict[Kind, float] = {"one": 0.36, "count": 0.16, "left": 0.18, "above": 0.14, "front": 0.06, "row": 0.1}
PLAIN_KINDS: dict[Kind, float] = {"one": 0.15, "count": 0.13, "left": 0.36, "above": 0.12, "front": 0.08, "row": 0.16}
VARIED = 0.3  # share of the requests in which numbers, sizes, poses and places come together freely
SHADES = 0.2  # share of the coloured things that are asked for in any colour, not only in a tint
SAYINGS = 4  # prompts of each concept in each language that `sayings` yields
NAMES_REPEATED = 3  # times that names come among the `words`


class EmojiPrompts:
    """See `protocol.Prompts`."""

    tests = ("bare", "held", "keywords", "scene", "scene_plain")

    def __init__(self, data: EmojiData) -> None:
        self._number = {concept.hex: k for k, concept in enumerate(data.concepts)}
        self.subjects = sorted({data.concept_index(int(i)) for i in data.splits["train"]})
        self._known = [data.concepts[k] for k in self.subjects]
        self._english = {concept.names["en"] for concept in data.concepts}
        nouns_of_set = {noun.hex for noun in nouns()}
        self._everyday = [concept for concept in self._known if concept.hex in nouns_of_set] or self._known
        self._with_keyword: dict[tuple[str, str], set[int]] = defaultdict(set)
        self._with_name: dict[tuple[str, str], list[int]] = defaultdict(list)
        for number, concept in zip(self.subjects, self._known, strict=True):
            for language in LANGUAGES:
                self._with_name[language, concept.names[language]].append(number)
                for word in concept.keywords[language]:
                    self._with_keyword[language, word].add(number)

    def training(self, rng: Random) -> Prompt:
        """See `protocol.Prompts`."""
        language, u = captions.language(rng), rng.random()
        if u < BARE:
            concept = rng.choice(self._known)
            name = concept.names[language]
            return self._prompt(name, _alone(concept), self._with_name[language, name])
        if u < BARE + KEYWORDS:
            return self._keywords(language, rng)
        if u < BARE + KEYWORDS + NOTHING:
            return Prompt(wording.nothing(language, rng), ())
        plain = u < BARE + KEYWORDS + NOTHING + PLAIN
        concepts = self._everyday if rng.random() < EVERYDAY[plain] else self._known
        asked = invent_request(concepts, rng, PLAIN_KINDS if plain else KINDS, VARIED)
        if plain:
            style = asked.style if rng.random() < PLAIN_STYLE else None
            ground = asked.ground if rng.random() < PLAIN_GROUND else None
            asked = replace(asked, style=style, ground=ground)
            if rng.random() < UNADORNED:
                asked = replace(asked, things=tuple(Thing(thing.concept, thing.count) for thing in asked.things))
        asked = replace(asked, things=tuple(self._shaded(thing, rng) for thing in asked.things))
        return self._prompt(wording.say(asked, language, rng, plain=plain), asked)

    def _shaded(self, thing: Thing, rng: Random) -> Thing:
        """The thing, at times in another colour; not where that makes the name of another thing, "black cat"."""
        if thing.colour is None or rng.random() > SHADES:
            return thing
        colour = rng.choice(COLOURS)
        named = f"{colour.name} {thing.concept.names['en']}" in self._english
        return thing if named else replace(thing, colour=colour)

    def held_out(self, kind: str, language: str, rng: Random) -> Prompt:
        """See `protocol.Prompts`."""
        match kind:
            case "bare":
                concept = rng.choice(self._known)
                return self._prompt(concept.names[language], _alone(concept))
            case "held":
                style = rng.choice((*STYLES, *[None] * len(STYLES)))
                asked = replace(_alone(rng.choice(self._known)), style=style)
            case "keywords":
                return self._keywords(language, rng, held=True)
            case _:
                asked = invent_request(self._known, rng)
        if kind == "scene_plain":
            return self._prompt(wording.canonical(asked, language), asked)
        return self._prompt(wording.say(asked, language, rng, held=True), asked)

    def handwritten(self, language: str) -> list[tuple[str, Callable[[Understood], bool]]]:
        """See `protocol.Prompts`."""
        return [(request.texts[language], request.met_by) for request in everyday()]

    def words(self) -> Iterator[str]:
        """See `protocol.Prompts`."""
        yield from [concept.names[language] for concept in self._known for language in LANGUAGES] * NAMES_REPEATED
        for concept in self._known:
            for language in LANGUAGES:
                yield from concept.keywords[language]

    def sayings(self, rng: Random) -> Iterator[Prompt]:
        """See `protocol.Prompts`."""
        tints = [colour for colour in COLOURS if colour.name in TINTS]
        for concept in self._known:
            for language in LANGUAGES:
                for k in range(SAYINGS):
                    style = rng.choice((*STYLES, None))
                    if k == 0:
                        yield self._prompt(concept.names[language], _alone(concept))
                    elif k == 1 and concept.keywords[language]:
                        yield self._prompt(" ".join(concept.keywords[language][:6]), _alone(concept))
                    else:
                        thing = Thing(concept, colour=rng.choice((None, *tints)))
                        asked = Asked((thing,), style=style, ground=rng.choice((None, *COLOURS)))
                        yield self._prompt(wording.say(asked, language, rng), asked)

    def phrases(self) -> list[tuple[str, int, bool]]:
        """See `protocol.Prompts`."""
        return list(wording.phrases(dict(zip(self.subjects, self._known, strict=True))))

    def values(self) -> list[tuple[str, str, int]]:
        """See `protocol.Prompts`."""
        return list(wording.values())

    def _keywords(self, language: str, rng: Random, held: bool = False) -> Prompt:
        """Returns keywords of some concept; every concept that has them all fits."""
        while True:
            concept = rng.choice(self._known)
            words = wording.keywords(concept, language, rng, held)
            if words:
                first, *others = (self._with_keyword[language, word] for word in words)
                fitting = sorted(first.intersection(*others))
                said = wording.say_keywords if held else wording.ask_for_keywords
                return self._prompt(said(words, language, rng), _alone(concept), fitting)

    def _prompt(self, text: str, asked: Asked, fitting: Sequence[int] = ()) -> Prompt:
        things = tuple(
            RequestedThing(
                self._number[thing.concept.hex],
                thing.count,
                tint_of(thing.colour.name) if thing.colour else 0,
                thing.size,
                thing.pose,
            )
            for thing in asked.things
        )
        style = STYLES.index(asked.style) if asked.style else None
        ground = COLOURS.index(asked.ground) if asked.ground else None
        first = tuple(fitting) or (things[0].subject,)
        return Prompt(text, things, asked.arrangement, asked.place, style, ground, first)


def _alone(concept: Concept) -> Asked:
    return Asked((Thing(concept),))
