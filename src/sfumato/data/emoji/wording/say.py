"""Saying what is asked in one language, as people might."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from sfumato.data.emoji.wording import english
from sfumato.data.emoji.wording.asked import Asked, Thing
from sfumato.data.emoji.wording.forms import COMMAS, LIST_COMMAS, case_slots, row_patterns, surface_words
from sfumato.data.emoji.wording.lexicon import SPACELESS, Template, lexicon, loose
from sfumato.data.emoji.wording.names import names, slip
from sfumato.data.emoji.wording.pseudo import noisy, pseudo_surface, pseudo_word
from sfumato.data.emoji.wording.things import Phrase, ThingSpeaker

ENGLISH_STYLE_SHARE = 0.03
NOISE_SHARE = {False: 0.12, True: 0.08}
LOOSE_SHARE = {False: 0.35, True: 0.65}
CLAUSE_SHARE = 0.25
CASE_TRIES = 5
CASES = frozenset("vw")

# Frames by how often they stand around one thing and around several.
GROUPS = ("plain", "pictures", "ask", "tags", "chat")
GROUP_WEIGHTS = {False: (0.27, 0.19, 0.26, 0.2, 0.08), True: (0.43, 0.14, 0.25, 0.13, 0.05)}
HELD_GROUP_WEIGHTS = (0.15, 0.2, 0.4, 0.15, 0.1)
# How a style is said: before the name, after the subject, as the picture word, behind a comma, in front.
WAYS = ("near", "tail", "picture", "comma", "head")
WAY_WEIGHTS = {False: (0.2, 0.28, 0.25, 0.17, 0.1), True: (0.0, 0.36, 0.26, 0.26, 0.12)}
GROUND_WAYS = ("tail", "comma", "head")
GROUND_WEIGHTS = (0.5, 0.38, 0.12)
# Shares of the backgrounds that are said of a thing behind, "in front of a blue wall", and of those things that do not
# exist: so a colour of something that no lexicon knows is learnt to be the background's.
SURFACE_SHARE = {False: 0.4, True: 0.15}
NO_SURFACE_SHARE = 0.4

GAP_SHARE = 0.25  # of the requests with a space around their things, in languages that write words together
BARE_SHARE = 0.15  # of the lists without "and", and of the styles and backgrounds without the comma before them
MOOD_SHARE = 0.06  # of the requests that also say something that is not asked for
SLIP_SHARE = 0.06  # of the requests with a slip of the fingers in any word

# Languages that put a style or a background before its noun, and so behind a comma where a clause is said of it.
BEFORE = ("zh", "ja")


def say(asked: Asked, language: str, rng: Random, held: bool = False, plain: bool = False) -> str:
    """One way a person might ask for this; `held` takes only wording that training never uses, `plain` says nothing
    but what is asked for."""
    return _Speaker(asked, language, rng, held, plain).say()


class _Speaker(ThingSpeaker):
    """One request on its way into words."""

    def __init__(self, asked: Asked, language: str, rng: Random, held: bool, plain: bool) -> None:
        super().__init__(asked, language, rng, held, plain)
        self.way = rng.choices(WAYS, WAY_WEIGHTS[self.several])[0] if asked.style else None
        self.ground_way = rng.choices(GROUND_WAYS, GROUND_WEIGHTS)[0] if asked.ground else None
        self.foreign = language != "en" and not held and rng.random() < ENGLISH_STYLE_SHARE
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
        if not (self.held or self.plain) and rng.random() < MOOD_SHARE:
            text = rng.choice(loose(self.language)["mood"]) + text
        return self._finished(text)

    def _framed(self) -> tuple[Template, list[Phrase]]:
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
        return frame, [self.thing(thing, case) for thing in self.asked.things]

    def _has(self, case: str, things: Sequence[Thing]) -> bool:
        """Whether every name is known in that case."""
        return all(t.count == 1 and case in names(t.concept, self.language)[0].cases for t in things)

    def _subject(self, phrases: Sequence[Phrase], slot: str, spoken: bool) -> str:
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
                return self.pick(tables[self.pattern + ("_clause" if self.clause else "")]).format(a=parts[0])
            case "row":
                comma = rng.choice(LIST_COMMAS[self.language])
                last = comma if self._bare() else self.pick(tables["joins.last"])
                listed = comma.join(parts[:-1]) + last + parts[-1]
                pattern = self.pick(row_patterns(tables["relations.row"], len(parts)))
                return pattern.format(list=listed, comma=comma.join(parts), ands=last.join(parts))
            case _:
                kind = "_clause" if self.clause else ""
                if asked.arrangement == "left" and not self.clause and rng.random() < LOOSE_SHARE[self.plain]:
                    kind = "_loose"
                return self._related(tables[self.pattern + kind], parts)

    def _related(self, patterns: Sequence[str], parts: Sequence[str]) -> str:
        """Two things in one of the patterns, each in the case that the pattern asks for."""
        for _ in range(CASE_TRIES):
            slots = case_slots(pattern := self.pick(patterns))
            if all(self._has(case, [self.asked.things[k]]) for k, case in slots.values()):
                break
        else:
            slots, pattern = {}, next(one for one in patterns if not case_slots(one))
        cased = {slot: self.thing(self.asked.things[k], case).bare for slot, (k, case) in slots.items()}
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
        word = self.pick(half.tables[f"styles.{self.asked.style}.{'tail' if way == 'tail' else 'noun'}"])
        if way == "head":
            return rng.choice(self.half.tables["joins.head"]).format(y=word, x=text)
        if way == "comma" or self.foreign:
            return f"{text}{self._comma()}{word}"
        return _joined(word, text)

    def _grounded(self, text: str) -> str:
        assert self.asked.ground is not None
        many = self.several or self.asked.things[0].count > 1
        words = self.colour_words(self.asked.ground)
        if not self.held and self.rng.random() < SURFACE_SHARE[self.plain]:
            pattern = self.rng.choice(self.half.tables[f"ground.surface_{self.ground_way}"])
            words = surface_words(self._surface(), words, self.language) | {"w": pseudo_word(self.language, self.rng)}
        else:
            pattern = self.pick(self.half.tables[f"ground.{self.ground_way}"])
        if self.ground_way == "tail" and "{x}" in pattern:
            return pattern.format(x=text, **words)
        said = pattern.format(it="them" if many else "it", **words)
        match self.ground_way:
            case "tail":
                return f"{text} {said}"
            case "comma":
                return f"{text}{self._comma()}{said}"
            case _:
                return said + text

    def _surface(self) -> str:
        """Something that may lie behind things, which at times does not exist."""
        if self.rng.random() < NO_SURFACE_SHARE:
            return pseudo_surface(self.language, self.rng)
        return self.pick(self.half.tables["ground.surfaces"])

    def _bare(self) -> bool:
        return not self.held and self.rng.random() < BARE_SHARE

    def _comma(self) -> str:
        return " " if self._bare() else COMMAS[self.language]

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


def _joined(pattern: str, text: str) -> str:
    return pattern.replace("{x}", text) if "{x}" in pattern else f"{text} {pattern}"
