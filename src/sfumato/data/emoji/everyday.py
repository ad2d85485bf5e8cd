"""Everyday requests, written by hand in six languages, and what each asks for. Training never sees their texts.

`everyday.tsv` has a row a request. Its first columns say what is asked for: the arrangement; the things, separated by
";", each as "count,tint,size,pose:concept" with what is not said left out; the place, the style and the background.
"/" separates answers that are equally right, "-" among them stands for "not said". The others are the texts.
`concepts.txt` has the English names of the set's concepts in their order, which is that of the embedded model's memory.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import zip_longest

from sfumato.data.emoji.captions import COLOURS, LANGUAGES, STYLES
from sfumato.data.emoji.nouns import TINTS
from sfumato.nets.prior import Named, Understood

COLUMNS = ("arrangement", "things", "place", "style", "ground")


@dataclass(frozen=True)
class Expected:
    """A thing that is asked for: the answers that are right for each of its attributes."""

    count: int
    tints: tuple[str | None, ...]
    size: str | None
    pose: str | None
    concepts: tuple[str, ...]

    def met_by(self, thing: Named) -> bool:
        """Whether the thing is this one."""
        group, tint = thing.group, TINTS[thing.tint - 1] if thing.tint else None
        named = concept_names()[thing.concept] in self.concepts
        return named and tint in self.tints and (group.count, group.size, group.pose) == (
            self.count, self.size, self.pose,
        )  # fmt: skip


@dataclass(frozen=True)
class Everyday:
    """A request in six languages, and what it asks for."""

    texts: dict[str, str]
    arrangement: str
    things: tuple[Expected, ...]
    place: str | None
    style: str | None
    ground: str | None

    def met_by(self, found: Understood) -> bool:
        """Whether all that is asked for was understood, and nothing else."""
        style = None if found.style is None else STYLES[found.style]
        ground = COLOURS[found.ground].name if found.ground < len(COLOURS) else None
        whole = (found.arrangement, found.place, style, ground)
        return whole == (self.arrangement, self.place, self.style, self.ground) and all(
            want is not None and thing is not None and want.met_by(thing)
            for want, thing in zip_longest(self.things, found.things)
        )


@cache
def concept_names() -> tuple[str, ...]:
    """English names of the set's concepts, by number."""
    text = resources.files(__package__).joinpath("concepts.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())


@cache
def everyday() -> tuple[Everyday, ...]:
    """All everyday requests."""
    text = resources.files(__package__).joinpath("everyday.tsv").read_text(encoding="utf-8")
    return tuple(_request(row) for row in csv.DictReader(text.splitlines(), delimiter="\t"))


def _request(row: dict[str, str]) -> Everyday:
    arrangement, things, place, style, ground = (row[name] or None for name in COLUMNS)
    expected = tuple(_thing(thing) for thing in (things or "").split(";"))
    return Everyday({name: row[name] for name in LANGUAGES}, arrangement or "one", expected, place, style, ground)


def _thing(text: str) -> Expected:
    attributes, concepts = text.split(":", 1)
    count, tint, size, pose = (attributes.split(",") + [""] * 3)[:4]
    if count and not count.isdigit():  # a tint alone
        count, tint = "", count
    tints = tuple(None if name in ("", "-") else name for name in tint.split("/"))
    return Expected(int(count or 1), tints, size or None, pose or None, tuple(concepts.split("/")))
