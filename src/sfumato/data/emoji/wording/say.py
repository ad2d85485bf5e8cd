"""Saying what is asked in one language, as people might."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from random import Random

from sfumato.data.emoji.captions import Colour
from sfumato.data.emoji.wording import english
from sfumato.data.emoji.wording.asked import Asked, Thing
from sfumato.data.emoji.wording.forms import COMMAS, LIST_COMMAS, case_slots, colour_words, counted_form, row_patterns
from sfumato.data.emoji.wording.lexicon import Half, Modifiers, Template, lexicon
from sfumato.data.emoji.wording.names import (
    COUNTERS,
    EMOJI_BESIDE_SHARE,
    EMOJI_SHARE,
    OTHER_SHARE,
    TYPO_LANGUAGES,
    Name,
    names,
    slip,
    typo,
)
from sfumato.data.emoji.wording.pseudo import noisy, pseudo_adjective

TYPO_SHARE = 0.08
WIDE_SHARE = 0.02
ENGLISH_STYLE_SHARE = 0.03
PLURAL_SHARE = 0.1
ADJECTIVE_SHARE = {False: 0.25, True: 0.08}
PSEUDO_SHARE = 0.04
SECOND_ADJECTIVE_SHARE = 0.2
NOISE_SHARE = {False: 0.12, True: 0.05}
TAIL_SHARE = 0.25
COLOUR_SYNONYM_SHARE = 0.25
LOOSE_SHARE = {False: 0.35, True: 0.55}
CLAUSE_SHARE = 0.25
CASE_TRIES = 5
CASES = frozenset("vw")

# How often a single thing gets a determiner, where the language does not ask for one; English mostly says "a".
DETERMINED_SHARE = {"en": 0.35, "th": 0.2, "zh": 0.5, "id": 0.4, "uk": 0.12, "ja": 0.1}
ARTICLES = ("a", "a", "a", "some", "bare")

# Frames by how often they stand around one thing and around several.
GROUPS = ("plain", "pictures", "ask", "tags", "chat")
GROUP_WEIGHTS = {False: (0.32, 0.16, 0.3, 0.13, 0.09), True: (0.48, 0.14, 0.26, 0.07, 0.05)}
HELD_GROUP_WEIGHTS = (0.15, 0.2, 0.4, 0.15, 0.1)
# How a style is said: before the name, after the subject, as the picture word, behind a comma, in front.
WAYS = ("near", "tail", "picture", "comma", "head")
WAY_WEIGHTS = {False: (0.2, 0.28, 0.25, 0.17, 0.1), True: (0.0, 0.36, 0.26, 0.26, 0.12)}
GROUND_WAYS = ("tail", "comma", "head")
GROUND_WEIGHTS = (0.5, 0.38, 0.12)

# Patterns stand in their lists from the plainest to the rarest, and are said that often (Zipf 1949): the weight of the
# one at place k is 1 / (k + ZIPF), by whether the request is a plain one. A share is drawn evenly, so that rare ones are
# heard as well.
ZIPF = {False: 4.0, True: 1.0}
EVEN_SHARE = {False: 0.3, True: 0.1}
OTHER_COUNTER_SHARE = 0.15
GAP_SHARE = 0.25  # of the requests with a space around their things, in languages that write words together
SLIP_SHARE = 0.06  # of the requests with a slip of the fingers in any word

# Languages that put a style or a background before its noun, and so behind a comma where a clause is said of it.
BEFORE = ("zh", "ja")
# What ends a modifier that may stand before another one.
JOINERS = {"zh": "的}", "ja": "のないたき}"}
SPACELESS = ("th", "zh", "ja")


def say(asked: Asked, language: str, rng: Random, held: bool = False, plain: bool = False) -> str:
    """One way a person might ask for this; `held` takes only wording that training never uses, `plain` says nothing
    but what is asked for."""
    return _Speaker(asked, language, rng, held, plain).say()


@dataclass(frozen=True)
class _Phrase:
    """A thing in words: with a determiner or without, as the frame wants it."""

    bare: str
    determined: str


class _Speaker:
    """One request on its way into words."""

    def __init__(self, asked: Asked, language: str, rng: Random, held: bool, plain: bool) -> None:
        self.asked, self.language, self.rng, self.held, self.plain = asked, language, rng, held, plain
        self.half: Half = lexicon(language, held)
        self.several = len(asked.things) > 1
        self.way = rng.choices(WAYS, WAY_WEIGHTS[self.several])[0] if asked.style else None
        self.ground_way = rng.choices(GROUND_WAYS, GROUND_WEIGHTS)[0] if asked.ground else None
        self.foreign = language != "en" and not held and rng.random() < ENGLISH_STYLE_SHARE
        self.article = rng.choice(ARTICLES)
        self.pattern = f"places.{asked.place}" if asked.place else f"relations.{asked.arrangement}"
        clauses = f"{self.pattern}_clause" in self.half.tables and self.way != "picture"
        self.clause = clauses and rng.random() < CLAUSE_SHARE
        if self.clause and language in BEFORE:
            self.way = "comma" if self.way == "tail" else self.way
            self.ground_way = "comma" if self.ground_way == "tail" else self.ground_way
        if self.foreign and self.way == "near":
            self.way = "comma"

    def say(self) -> str:
        rng = self.rng
        frame, phrases = self._framed()
        spoken = "ask" if frame in self.half.frames["ask"] or frame in self.half.frames["chat"] else "other"
        values = {
            slot: self._subject(phrases, slot, spoken == "ask") for slot in frame.slots & {"x", "s", "v", "w", "n1"}
        }
        if "p" in frame.slots or "q" in frame.slots:
            picture = self._picture()
            values["q"] = picture
            values["p"] = self._with_article(picture)
        text = self.half.render(frame, values, rng)
        text = self._dressed(text, ("head",) if spoken == "ask" else ("comma", "head"))
        if not (self.held or self.plain) and rng.random() < NOISE_SHARE[self.several]:
            text = noisy(text, self.language, rng)
        return self._finished(text)

    def _pick(self, patterns: Sequence[str]) -> str:
        """One of the patterns; in training the plain ones more often."""
        return self.rng.choice(patterns) if self.held else plainer(tuple(patterns), self.rng, self.plain)

    def _framed(self) -> tuple[Template, list[_Phrase]]:
        """A frame, and the things in the case that it takes."""
        weights = HELD_GROUP_WEIGHTS if self.held else GROUP_WEIGHTS[self.several]
        group = "clause" if self.clause else self.rng.choices(GROUPS, weights)[0]
        if self.way == "picture":
            group = "pictures"
        frames = self.half.frames[group]
        if self.plain and self.way != "picture":
            frames = tuple(frame for frame in self.half.frames["plain"] if frame.bare)
        for _ in range(CASE_TRIES):
            frame = self.rng.choice(frames)
            case = next(iter(frame.slots & CASES), None)
            if case is None or (self._has(case, self.asked.things) and not (case == "w" and self.several)):
                break
        else:
            frame, case = next(frame for frame in frames if not frame.slots & CASES), None
        return frame, [self._thing(thing, case) for thing in self.asked.things]

    def _has(self, case: str, things: Sequence[Thing]) -> bool:
        """Whether every name is known in that case."""
        return all(t.count == 1 and case in names(t.concept, self.language)[0].cases for t in things)

    # Things

    def _thing(self, thing: Thing, case: str | None) -> _Phrase:
        rng = self.rng
        known = names(thing.concept, self.language)
        name = known[0]
        if len(known) > 1 and not case and rng.random() < OTHER_SHARE:
            name = rng.choice(known[1:])
        text, gender = self._called(thing, name, case)
        if text is None:
            return _Phrase(thing.concept.emoji, thing.concept.emoji)
        many = thing.count > 1
        modifiers = self.half.modifiers[gender]
        text, tail = self._described(text, thing, modifiers, gender)
        if many:
            text = self._counted(text, thing.count, name)
        bare = self._tailed(text, tail, thing, gender)
        if many or (self.article == "bare" and self.language == "en"):
            return _Phrase(bare, bare)
        return _Phrase(bare, self._tailed(self._determined(text, name, modifiers), tail, thing, gender))

    def _called(self, thing: Thing, name: Name, case: str | None) -> tuple[str | None, str]:
        """The name in the form that is wanted (None: its emoji), and the gender that goes with it."""
        rng, language = self.rng, self.language
        if thing.count > 1:
            return counted_form(name, thing.count)[:2]
        if case:
            return name.cases[case]
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
                tail = self._pick(modifiers.colour_tail if colour else modifiers.attributes_tail[what])
                continue
            pattern = self._fitting(modifiers.colour if colour else modifiers.attributes[what], text == plain)
            text = pattern.format(n=text, **self._colour_words(thing.colour, gender)) if colour else _put(pattern, text)
        if self.way == "near" and self.asked.style:
            text = _put(self._pick(modifiers.styles[self.asked.style]), text)
        chance = rng.random()
        if self.plain:
            return text, tail
        if chance < ADJECTIVE_SHARE[self.several]:
            text = _put(rng.choice(modifiers.adjectives), text)
            if not self.several and rng.random() < SECOND_ADJECTIVE_SHARE:
                text = _put(rng.choice(modifiers.adjectives), text)
        elif chance > 1 - PSEUDO_SHARE and not self.several:
            text = pseudo_adjective(text, self.language, rng, self.held, gender)
        return text, tail

    def _fitting(self, patterns: Sequence[str], plain: bool) -> str:
        """One of the patterns; in Chinese and Japanese those that make one word with the noun take only a plain one."""
        pattern = self._pick(patterns)
        while (
            not plain
            and pattern.endswith("{n}")
            and self.language in JOINERS
            and pattern[-4] not in JOINERS[self.language]
        ):
            pattern = self._pick(patterns)
        return pattern

    def _tailed(self, text: str, pattern: str | None, thing: Thing, gender: str) -> str:
        if pattern is None:
            return text
        name = thing.concept.names[self.language]
        many = thing.count > 1 or (self.language == "en" and name.endswith("s") and not english.countable(name))
        colour = self._colour_words(thing.colour, gender) if thing.colour else {}
        return pattern.format(n=text, its="their" if many else "its", **{"is": "are" if many else "is"}, **colour)

    def _counted(self, text: str, count: int, name: Name) -> str:
        pattern = self._pick(self.half.tables[f"{counted_form(name, count)[2]}.{count}"])
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

    def _colour_words(self, colour: Colour | None, gender: str = "n") -> dict[str, str]:
        """A colour in every form that the patterns of the language take."""
        assert colour is not None
        word = colour.words[self.language]
        synonyms = self.half.tables.get(f"colours.{colour.name}")
        if synonyms and self.rng.random() < COLOUR_SYNONYM_SHARE:
            word = self.rng.choice(synonyms)
        return colour_words(colour, word, self.language, gender)

    # The whole subject

    def _subject(self, phrases: Sequence[_Phrase], slot: str, spoken: bool) -> str:
        """The things in their arrangement, with the style and the background where these go with the subject."""
        parts = [phrase.determined if slot == "x" else phrase.bare for phrase in phrases]
        if slot == "n1" and not self.several and self.asked.things[0].count == 1:
            parts = [f"1 {parts[0]}"]
        text = self._arranged(parts)
        return self._dressed(text, ("tail", "comma") if spoken else ("tail",))

    def _arranged(self, parts: Sequence[str]) -> str:
        rng, asked, tables = self.rng, self.asked, self.half.tables
        if self.language in SPACELESS and not self.held and rng.random() < GAP_SHARE:
            parts = [f" {part} " for part in parts]
        match asked.arrangement:
            case "one":
                if asked.place is None:
                    return parts[0]
                return self._pick(tables[self.pattern + ("_clause" if self.clause else "")]).format(a=parts[0])
            case "row":
                comma = rng.choice(LIST_COMMAS[self.language])
                last = self._pick(tables["joins.last"])
                listed = comma.join(parts[:-1]) + last + parts[-1]
                pattern = self._pick(row_patterns(tables["relations.row"], len(parts)))
                return pattern.format(list=listed, comma=comma.join(parts), ands=last.join(parts))
            case _:
                kind = "_clause" if self.clause else ""
                if asked.arrangement == "left" and not self.clause and rng.random() < LOOSE_SHARE[self.plain]:
                    kind = "_loose"
                return self._related(tables[self.pattern + kind], parts)

    def _related(self, patterns: Sequence[str], parts: Sequence[str]) -> str:
        """Two things in one of the patterns, each in the case that the pattern asks for."""
        for _ in range(CASE_TRIES):
            slots = case_slots(pattern := self._pick(patterns))
            if all(self._has(case, [self.asked.things[k]]) for k, case in slots.values()):
                break
        else:
            slots, pattern = {}, next(one for one in patterns if not case_slots(one))
        cased = {slot: self._thing(self.asked.things[k], case).bare for slot, (k, case) in slots.items()}
        return pattern.format(a=parts[0], b=parts[1], **cased)

    def _dressed(self, text: str, ways: Sequence[str]) -> str:
        """The text with the style and the background, as far as they are said in one of `ways`."""
        steps = []
        if self.way in ways:
            steps.append(self._styled)
        if self.ground_way in ways:
            steps.append(self._grounded)
        if len(steps) == 2 and self.rng.random() < 0.35:
            steps.reverse()
        for step in steps:
            text = step(text)
        return text

    def _styled(self, text: str) -> str:
        rng, way = self.rng, self.way
        half = lexicon("en", False) if self.foreign else self.half
        word = self._pick(half.tables[f"styles.{self.asked.style}.{'tail' if way == 'tail' else 'noun'}"])
        if way == "head":
            return rng.choice(self.half.tables["joins.head"]).format(y=word, x=text)
        if way == "comma" or self.foreign:
            return f"{text}{COMMAS[self.language]}{word}"
        return _joined(word, text)

    def _grounded(self, text: str) -> str:
        assert self.asked.ground is not None
        pattern = self._pick(self.half.tables[f"ground.{self.ground_way}"])
        many = self.several or self.asked.things[0].count > 1
        words = self._colour_words(self.asked.ground)
        if self.ground_way == "tail" and "{x}" in pattern:
            return pattern.format(x=text, **words)
        said = pattern.format(it="them" if many else "it", **words)
        match self.ground_way:
            case "tail":
                return f"{text} {said}"
            case "comma":
                return f"{text}{COMMAS[self.language]}{said}"
            case _:
                return said + text

    def _picture(self) -> str:
        """The picture word: the style where it is said so."""
        if self.way == "picture":
            half = lexicon("en", False) if self.foreign else self.half
            return self.rng.choice(half.tables[f"styles.{self.asked.style}.noun"])
        return self.rng.choice(self.half.tables["pictures.words"])

    def _with_article(self, picture: str) -> str:
        if self.language != "en":
            return picture
        return english.with_article(picture) if self.rng.random() < 0.85 else f"the {picture}"

    def _finished(self, text: str) -> str:
        """Case and final marks."""
        rng = self.rng
        text = " ".join(text.split())
        if not self.held and rng.random() < SLIP_SHARE:
            text = slip(text, self.language, rng)
        chance = rng.random()
        if self.language not in SPACELESS:
            if chance < 0.12:
                text = text[:1].upper() + text[1:]
            elif chance < 0.18:
                text = text.upper()
            elif chance < 0.22:
                text = text.title()
        if text[-1:] not in "?!.。！？":
            chance = rng.random()
            dot, bang = ("。", "！") if self.language in ("zh", "ja") else (".", "!")
            if self.language == "th":
                dot = ""
            text += dot if chance < 0.12 else bang if chance < 0.17 else ""
        return text


def plainer(patterns: tuple[str, ...], rng: Random, plain: bool = False) -> str:
    """Returns one of the patterns, those that stand first more often; see `ZIPF`."""
    if rng.random() < EVEN_SHARE[plain]:
        return rng.choice(patterns)
    ranked, weights = _ranked(patterns, plain)
    return rng.choices(ranked, cum_weights=weights)[0]


@cache
def _ranked(patterns: tuple[str, ...], plain: bool) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """The patterns, each once, and the sums of their weights."""
    ranked = tuple(dict.fromkeys(patterns))
    return ranked, tuple(accumulate(1 / (k + ZIPF[plain]) for k in range(len(ranked))))


def _put(pattern: str, text: str) -> str:
    return pattern.replace("{n}", text)


def _joined(pattern: str, text: str) -> str:
    return pattern.replace("{x}", text) if "{x}" in pattern else f"{text} {pattern}"
