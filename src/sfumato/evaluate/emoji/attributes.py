"""Whether a scene was drawn as its caption says: which things, in which colours, how many, and where.

The idea is GenEval's (Ghosh et al. 2023): find the objects, then ask of each attribute alone. An answer is a pair, what
was asked for and what is seen; all figures are counts of such pairs. Real scenes answer the same questions, which shows
what the check itself gets wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import torch
from torch import Tensor

from sfumato.data.emoji.captions import COLOURS, Concept
from sfumato.data.emoji.concept_scenes import ConceptScene, ConceptScenes, PlacedConcept
from sfumato.data.emoji.nouns import TINTS
from sfumato.evaluate.emoji.classifier import Classifier
from sfumato.evaluate.emoji.poses import pose_of
from sfumato.evaluate.emoji.questions import Question
from sfumato.evaluate.objects import Found, cut_out, find_objects, ground
from sfumato.nets.layout import POSES

WHOLE = "whole scene"
ATTRIBUTES = ("thing", "background", "colour", "count", "position", "size", "pose", "outside", WHOLE)
MANY = 5  # objects and more
SMALL = 0.6  # of the picture's edge: something smaller is small
NOTHING = "nothing"
YES, NO = "as asked", "otherwise"
CROP = 64  # pixels at which the judge sees a thing


@dataclass(frozen=True)
class Answer:
    """`asked` and `seen` of one of ATTRIBUTES; what cannot be told is NOTHING."""

    attribute: str
    asked: str
    seen: str

    @property
    def right(self) -> bool:
        return self.asked == self.seen


@dataclass(frozen=True, eq=False)
class Sight:
    """The M objects of picture `x` (3, H, W), and how well each fits each concept, (M, C)."""

    x: Tensor
    objects: list[Found]
    scores: Tensor
    classifier: Classifier

    @classmethod
    def of(cls, x: Tensor, style: str, classifier: Classifier) -> Sight:
        """Of a picture in [-1, 1] that was asked for in a style."""
        objects = find_objects(x[None])[0]
        crops = [cut_out(x, found, CROP) for found in objects]
        vectors = classifier.look(torch.stack(crops)) if crops else torch.zeros(0, classifier.judge.width)
        return cls(x, objects, classifier.scores(vectors, style), classifier)

    def shown(self, concepts: Sequence[Concept]) -> list[int | None]:
        """Which object each thing is."""
        return assign(self.scores[:, [self.classifier.places[concept.hex] for concept in concepts]])

    def of_thing(self, thing: PlacedConcept, concept: Concept, k: int | None) -> list[Answer]:
        """Whether object k is the thing, in its colour if that was named."""
        seen = NOTHING if k is None else self.classifier.called(self.scores[k], concept)
        found = [Answer("thing", concept.names["en"], seen)]
        if thing.colour:
            found.append(Answer("colour", thing.colour.name, NOTHING if k is None else tint(self.x, self.objects[k])))
        return found

    def of_count(self, scene: ConceptScene) -> Answer:
        return Answer("count", _number(len(scene.objects)), _number(len(self.objects)))

    def of_position(self, kind: str, first: int | None, second: int | None) -> Answer:
        """Where one object lies from another, by their centres."""
        if first is None or second is None:
            return Answer("position", kind, NOTHING)
        (x, y), (x1, y1) = self.objects[first].centre, self.objects[second].centre
        if abs(x - x1) > abs(y - y1):
            return Answer("position", kind, "left" if x < x1 else "right")
        return Answer("position", kind, "above" if y < y1 else "below")

    def of_size(self, k: int | None) -> Answer:
        if k is None:
            return Answer("size", "small", NOTHING)
        left, top, right, bottom = self.objects[k].box
        longer = max(right - left, bottom - top) / self.x.shape[1]
        return Answer("size", "small", "small" if longer < SMALL else "large")

    def of_pose(self, thing: PlacedConcept, pose: str, k: int | None, scenes: ConceptScenes) -> Answer:
        if k is None:
            return Answer("pose", pose, NOTHING)
        return Answer("pose", pose, pose_of(self.x, self.objects[k], scenes.cutout(thing.picture, thing.colour)))


def answers(question: Question, x: Tensor, scenes: ConceptScenes, classifier: Classifier) -> list[Answer]:
    """What picture (3, H, W) in [-1, 1] shows of what was asked for."""
    scene, things = question.scene, question.things
    concepts = [scene.asked.things[thing.group].concept for thing in things]
    sight = Sight.of(x, scene.style, classifier)
    shown = sight.shown(concepts)
    found = [
        answer
        for thing, concept, k in zip(things, concepts, shown, strict=True)
        for answer in sight.of_thing(thing, concept, k)
    ]
    if scene.asked.ground:
        seen = COLOURS[int(colour_of(ground(x[None])))].name
        found.append(Answer("background", scene.asked.ground.name, seen))
    if question.kind in ("count", "many"):
        found.append(sight.of_count(scene))
    elif question.kind == "small":
        found.append(sight.of_size(shown[0]))
    elif question.kind in POSES:
        found.append(sight.of_pose(things[0], question.kind, shown[0], scenes))
    elif len(things) == 2:
        found.append(sight.of_position(question.kind, *shown))
    return [*found, together(found, len(sight.objects) == len(scene.objects))]


def together(found: Sequence[Answer], alone: bool = True) -> Answer:
    """Whether all answers are right, and whether nothing else is shown."""
    return Answer(WHOLE, YES, YES if alone and all(answer.right for answer in found) else NO)


def assign(scores: Tensor) -> list[int | None]:
    """For each of K things the object (M, K) that shows it, no object twice, so that the whole fits best.

    None for things that no object is left for.
    """
    objects, things = scores.shape
    # Of many objects only those can be chosen that fit some thing best.
    likely = sorted({int(k) for k in scores.topk(min(objects, things), 0).indices.flatten()})
    rows: list[int | None] = [*likely, *[None] * max(0, things - objects)]
    best = max(
        permutations(rows, things),
        key=lambda order: sum(scores[k, thing].item() for thing, k in enumerate(order) if k is not None),
    )
    return list(best)


def colour_of(colours: Tensor) -> Tensor:
    """Place in COLOURS of the named colour that is nearest to each of 8-bit (B, 3): int64 (B,)."""
    low = torch.tensor([colour.low for colour in COLOURS]).float()
    high = torch.tensor([colour.high for colour in COLOURS]).float()
    rgb = colours[:, None]
    return (rgb - rgb.clamp(low, high)).square().sum(2).argmin(1)


def tint(x: Tensor, found: Found) -> str:
    """The one of TINTS that is nearest to an object's mean 8-bit colour, the more saturated pixels counting more."""
    rgb = (x[:, found.mask] + 1) * 127.5
    chroma = rgb.amax(0) - rgb.amin(0) + 1e-3
    mean = (rgb * chroma).sum(1) / chroma.sum()
    colours = [colour for colour in COLOURS if colour.name in TINTS]
    middles = torch.tensor([[(a + b) / 2 for a, b in zip(c.low, c.high, strict=True)] for c in colours])
    return colours[int((middles - mean).square().sum(1).argmin())].name


def _number(objects: int) -> str:
    return "many" if objects >= MANY else str(objects)
