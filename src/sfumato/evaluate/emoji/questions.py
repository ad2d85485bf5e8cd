"""Scenes to ask for: composed of pictures of the set, each with one attribute above all that is to be seen in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from random import Random

from sfumato.data.emoji import wording
from sfumato.data.emoji.concept_scenes import ConceptScene, ConceptScenes, PlacedConcept
from sfumato.data.emoji.wording import Asked
from sfumato.evaluate.emoji.poses import tellable
from sfumato.nets.layout import MAX_COUNT

KINDS = ("colour", "count", "many", "left", "right", "above", "below", "small", "tilted", "mirrored", "upside_down")
# A scene of the second said from its other thing.
TURNED = {"right": "left", "below": "above"}
PATIENCE = 1500  # scenes looked through for one that is wanted


@dataclass(frozen=True)
class Question:
    """A scene, and which of KINDS it is asked for as: "right" says a scene of "left" from its other thing."""

    scene: ConceptScene
    kind: str

    @property
    def turned(self) -> bool:
        return self.kind in TURNED

    def prompt(self, language: str, held: bool, seed: int) -> str:
        """The scene in plain words, or in some that training never uses, which `seed` picks."""
        if held:
            return wording.say(self.scene.asked, language, Random(f"{seed}/{language}"), held=True)
        return wording.canonical(self.scene.asked, language, turned=self.turned)

    @property
    def things(self) -> list[PlacedConcept]:
        """One of each group of things, the one that plain words speak of first before the other."""
        groups = {placed.group: placed for placed in reversed(self.scene.objects)}
        return [groups[k] for k in sorted(groups, reverse=self.turned)]


def questions(scenes: ConceptScenes, styles: Sequence[str], n: int, kinds: Sequence[str] = KINDS) -> list[Question]:
    """The first n scenes of each kind in these styles, or fewer where there are none: kind by kind in turn."""
    wanted = {kind: n for kind in kinds}
    found: dict[str, list[Question]] = defaultdict(list)
    last = 0
    for number in count():
        open_kinds = [kind for kind in kinds if len(found[kind]) < wanted[kind]]
        if not open_kinds or number - last > PATIENCE:
            break
        scene = scenes[number]
        kind = kind_of(scene, scenes)
        fitting = [one for one in open_kinds if TURNED.get(one, one) == kind]
        if scene.style in styles and fitting:
            best = min(fitting, key=lambda one: len(found[one]))  # "left" and "right" take turns
            found[best].append(Question(scene, best))
            last = number
    return [found[kind][k] for k in range(n) for kind in kinds if k < len(found[kind])]


def kind_of(scene: ConceptScene, scenes: ConceptScenes) -> str | None:
    """What is to be seen in a scene, None where that is too much for one question."""
    asked, first = scene.asked, scene.asked.things[0]
    if asked.arrangement in ("left", "above"):
        return asked.arrangement if _plain(asked) else None
    if asked.arrangement != "one" or asked.place:
        return None
    if first.count > 1:
        return "many" if first.count == MAX_COUNT else "count"
    if first.pose:
        placed = scene.objects[0]
        clear = first.size != "small" and tellable(scenes.cutout(placed.picture, placed.colour), first.pose)
        return first.pose if clear else None
    if first.size:
        return "small" if first.size == "small" else None
    return "colour" if first.colour else None


def _plain(asked: Asked) -> bool:
    return all(thing.count == 1 and thing.size is None and thing.pose is None for thing in asked.things)
