"""Whether a scene was drawn as its caption says: which things, in which colours, how many, and where.

The idea is GenEval's (Ghosh et al. 2023): find the objects, then ask of each attribute alone. An answer is a pair, what
was asked for and what is seen; all figures are counts of such pairs. Real scenes answer the same questions, which shows
what the check itself gets wrong.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, islice, permutations

import torch
from torch import Tensor

from sfumato.data.emoji.captions import COLOURS
from sfumato.data.emoji.noun_scenes import NounScene, NounScenes, PlacedNoun
from sfumato.data.emoji.nouns import TINTS
from sfumato.data.emoji.scene_captions import prompt
from sfumato.evaluate.backgrounds import ground, name_of
from sfumato.evaluate.naming import Names
from sfumato.evaluate.objects import Found, find_objects

WHOLE = "whole scene"
ATTRIBUTES = ("object", "colour", "background", "count", "position", "outside", WHOLE)
KINDS = ("one", "count", "left", "right", "above")
MANY = 5  # objects and more
NOTHING = "nothing"
YES, NO = "as asked", "otherwise"
PATIENCE = 1000  # scenes looked through for one that is wanted


@dataclass(frozen=True)
class Answer:
    """`asked` and `seen` of one of ATTRIBUTES; what cannot be told is NOTHING."""

    attribute: str
    asked: str
    seen: str

    @property
    def right(self) -> bool:
        return self.asked == self.seen


@dataclass(frozen=True)
class Question:
    """A scene, and which of KINDS it is asked for as: "right" says a scene of "left" from its other object."""

    scene: NounScene
    kind: str

    def prompt(self, language: str) -> str:
        return prompt(self.scene, language, turned=self.kind == "right")

    @property
    def things(self) -> list[PlacedNoun]:
        """The distinct things, the one that is spoken of first before the other."""
        if self.kind == "count":
            return [self.scene.objects[0]]
        return list(self.scene.objects[:: -1 if self.kind == "right" else 1])


def questions(scenes: NounScenes, styles: Sequence[str], n: int, kinds: Sequence[str] = KINDS) -> list[Question]:
    """The first n scenes in these styles whose kinds take turns, or fewer where there are none."""
    wanted = [kinds[k % len(kinds)] for k in range(n)]
    pools: dict[str, list[NounScene]] = defaultdict(list)
    found = []
    numbers = count()
    for kind in wanted:
        source = "left" if kind == "right" else kind
        for number in islice(numbers, 0 if pools[source] else PATIENCE):
            scene = scenes[number]
            if scene.style in styles:
                pools[scene.kind].append(scene)
            if pools[source]:
                break
        if pools[source]:
            found.append(Question(pools[source].pop(0), kind))
    return found


@dataclass(frozen=True, eq=False)
class Sight:
    """The M objects of picture `x` (3, H, W), and how like each is to each noun (2, M, V), see `Names.likeness`."""

    x: Tensor
    names: Names
    objects: list[Found]
    likeness: Tensor

    @classmethod
    def of(cls, x: Tensor, style: str, names: Names) -> Sight:
        """Of a picture in [-1, 1] that was asked for in a style."""
        objects = find_objects(x[None])[0]
        return cls(x, names, objects, names.likeness(x, objects, style))

    def called(self, thing: PlacedNoun) -> list[str]:
        """What each object is, when a thing is looked for; one with a colour of its own is known by its form."""
        return [self.names.nouns[k].names["en"] for k in self.likeness[int(thing.colour is None)].argmax(1)]

    def shown(self, things: Sequence[PlacedNoun]) -> list[int | None]:
        """Which object each thing is."""
        columns = [self.likeness[int(thing.colour is None), :, self.names.place(thing.noun)] for thing in things]
        return assign(torch.stack(columns, 1))

    def of_thing(self, thing: PlacedNoun, k: int | None) -> list[Answer]:
        """Whether object k is the thing, in its colour if that was named."""
        found = [Answer("object", thing.noun.names["en"], NOTHING if k is None else self.called(thing)[k])]
        if thing.colour:
            found.append(Answer("colour", thing.colour.name, NOTHING if k is None else tint(self.x, self.objects[k])))
        return found

    def of_count(self, scene: NounScene) -> Answer:
        return Answer("count", str(len(scene.objects)), str(min(len(self.objects), MANY)))

    def of_position(self, kind: str, first: int | None, second: int | None) -> Answer:
        """Where one object lies from another, by their centres."""
        if first is None or second is None:
            return Answer("position", kind, NOTHING)
        (x, y), (x1, y1) = self.objects[first].centre, self.objects[second].centre
        if abs(x - x1) > abs(y - y1):
            return Answer("position", kind, "left" if x < x1 else "right")
        return Answer("position", kind, "above" if y < y1 else "below")


def answers(question: Question, x: Tensor, names: Names) -> list[Answer]:
    """What picture (3, H, W) in [-1, 1] shows of what was asked for."""
    scene, things = question.scene, question.things
    sight = Sight.of(x, scene.style, names)
    shown = sight.shown(things)
    found = [answer for thing, k in zip(things, shown, strict=True) for answer in sight.of_thing(thing, k)]
    if scene.background:
        seen = COLOURS[int(name_of(ground(x[None])))].name
        found.append(Answer("background", scene.background.name, seen))
    alone = len(sight.objects) == len(scene.objects)
    if question.kind == "count":
        found.append(sight.of_count(scene))
        alone &= set(sight.called(things[0])) == {things[0].noun.names["en"]}
    elif question.kind != "one":
        found.append(sight.of_position(question.kind, *shown))
    return [*found, together(found, alone)]


def together(found: Sequence[Answer], alone: bool = True) -> Answer:
    """Whether all answers are right, and whether nothing else is shown."""
    return Answer(WHOLE, YES, YES if alone and all(answer.right for answer in found) else NO)


def assign(likeness: Tensor) -> list[int | None]:
    """For each of K things the object (M, K) that shows it, no object twice, so that the whole is the most alike.

    None for things that no object is left for.
    """
    objects, things = likeness.shape
    rows: list[int | None] = [*range(objects), *[None] * max(0, things - objects)]
    best = max(
        permutations(rows, things),
        key=lambda order: sum(likeness[k, thing].item() for thing, k in enumerate(order) if k is not None),
    )
    return list(best)


def tint(x: Tensor, found: Found) -> str:
    """The one of TINTS that is nearest to an object's mean 8-bit colour, the more saturated pixels counting more."""
    rgb = (x[:, found.mask] + 1) * 127.5
    chroma = rgb.amax(0) - rgb.amin(0) + 1e-3
    mean = (rgb * chroma).sum(1) / chroma.sum()
    colours = [colour for colour in COLOURS if colour.name in TINTS]
    middles = torch.tensor([[(a + b) / 2 for a, b in zip(c.low, c.high, strict=True)] for c in colours])
    return colours[int((middles - mean).square().sum(1).argmin())].name
