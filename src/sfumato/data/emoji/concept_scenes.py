"""Scenes of one to six things of any concept: the scenes from which models learn to draw, and the requests for them.

Only pictures of one split take part, the training split by default. So every known concept can stand in a scene, in
every style. Where things lie is decided by `nets.layout`, as when a model lays out a prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

import numpy as np

from sfumato.data.emoji.captions import COLOURS, STYLES, Colour, Concept
from sfumato.data.emoji.dataset import EmojiData
from sfumato.data.emoji.nouns import TINTS
from sfumato.data.emoji.scenes import WHITE, ComposedScenes, named_colour, painted
from sfumato.data.emoji.wording import Asked, Thing
from sfumato.data.protocol import Rgb
from sfumato.nets.layout import MAX_COUNT, MAX_THINGS, PLACES, POSES, Arrangement, Group, Pose, Size, Spot, spots

Kind = Literal["one", "count", "left", "above", "front", "row"]
KINDS: dict[Kind, float] = {"one": 0.46, "count": 0.16, "left": 0.16, "above": 0.12, "front": 0.02, "row": 0.08}
COUNTS = {2: 0.3, 3: 0.26, 4: 0.22, 5: 0.1, 6: 0.12}
TINT_SHARE = 0.35
GROUND_SHARE = 0.5
STYLE_SHARE = 0.65  # of requests that nobody has drawn
SIZE_SHARE = 0.25
SIZES_OF_TWO: tuple[tuple[Size | None, Size | None], ...] = (
    ("small", "big"), ("big", "small"), ("small", None), (None, "small"), ("big", None),
)  # fmt: skip
POSE_SHARE = 0.2
PLACE_SHARE = 0.2
SEVERAL_SHARE = 0.25  # of the groups beside another
VARIED_SHARE = 0.25  # of the things of varied requests that have a size, and of those that have a pose
SAME_SHARE = 0.3  # of the varied requests for several groups that are all of one thing


@dataclass(frozen=True)
class PlacedConcept:
    """A thing in a scene.

    `picture` is the number of its picture in the set, `group` the place of its group in `Asked.things`, `colour` its
    tint, and `spot` says where it lies.
    """

    picture: int
    group: int
    colour: Colour | None
    spot: Spot

    @property
    def order(self) -> int:
        """How far in front the thing lies; 0 is the farthest."""
        return self.spot.order


@dataclass(frozen=True)
class ConceptScene:
    """A request (`asked`) and one picture that fits it: the things, and the 8-bit RGB of the background.

    The background is white if the request names none.
    """

    asked: Asked
    style: str
    objects: tuple[PlacedConcept, ...]
    rgb: Rgb


class ConceptScenes(ComposedScenes[PlacedConcept]):
    """An endless row of scenes: `scenes[number]` says what lies where, and `draw` renders it.

    `numbers` are the pictures that may take part, by default the training split. Raises SfumatoError if every style has
    fewer than four of them.
    """

    least_pictures = 4
    kept_cutouts = 1024

    def __init__(self, data: EmojiData, seed: int = 0, numbers: np.ndarray | None = None) -> None:
        pictures: dict[str, list[int]] = {style: [] for style in STYLES}
        for number in (data.splits["train"] if numbers is None else numbers).tolist():
            pictures[data.style(number)].append(number)
        super().__init__(data, seed, pictures)
        self._weights = [len(numbers) for numbers in self.pictures.values()]

    def __getitem__(self, number: int) -> ConceptScene:
        """Returns scene `number`, a pure function of the set, the seed and the number."""
        rng = Random(f"{self.seed}/{number}")
        style = rng.choices(list(self.pictures), self._weights)[0]
        kind = _kind(rng)
        pictures = rng.sample(self.pictures[style], _groups(kind, rng))
        tints = [self.tint(picture, TINT_SHARE, rng) for picture in pictures]
        asked = _asked(kind, [self.data.concept(picture) for picture in pictures], tints, rng)
        groups = [Group(thing.count, thing.size, thing.pose) for thing in asked.things]
        where = spots(asked.arrangement, asked.place, groups, rng)
        objects = tuple(PlacedConcept(pictures[spot.group], spot.group, tints[spot.group], spot) for spot in where)
        ground = self.ground(objects, GROUND_SHARE, rng)
        return ConceptScene(replace(asked, style=style, ground=ground), style, objects, painted(ground, rng))

    def alone(self, picture: int, spot: Spot) -> ConceptScene:
        """Returns a scene of one picture, of any split, on white."""
        style = self.data.style(picture)
        asked = Asked((Thing(self.data.concept(picture)),), style=style)
        return ConceptScene(asked, style, (PlacedConcept(picture, 0, None, spot),), WHITE)

    def patch(self, placed: PlacedConcept) -> tuple[np.ndarray, int, int]:
        """See `ComposedScenes.patch`; the thing is scaled, mirrored and turned as its spot says."""
        cutout, side, spot = self.cutout(placed.picture, placed.colour), self.data.size, placed.spot
        rgba = cutout.posed(*cutout.size(spot.side * side), spot.angle, spot.mirrored)
        height, width = rgba.shape[:2]
        return rgba, round(spot.x * side - width / 2), round(spot.y * side - height / 2)


def invent_request(
    concepts: Sequence[Concept], rng: Random, kinds: Mapping[Kind, float] = KINDS, varied: float = 0.0
) -> Asked:
    """Invents a request for any of the concepts, in any colours, style and background; it need not have a picture.

    `kinds` says how often each kind of scene is asked for. A share `varied` has numbers, sizes, poses and places that
    no composed scene has together, or several groups of one thing in several colours.
    """
    kind = _kind(rng, kinds)
    things = rng.sample(concepts, 4 if kind == "row" and rng.random() < varied else _groups(kind, rng))
    tints = [named_colour(rng.choice(TINTS)) if rng.random() < TINT_SHARE else None for _ in things]
    style = rng.choice(STYLES) if rng.random() < STYLE_SHARE else None
    ground = rng.choice(COLOURS) if rng.random() < GROUND_SHARE else None
    asked = replace(_asked(kind, things, tints, rng), style=style, ground=ground)
    return _varied(asked, rng) if varied and rng.random() < varied else asked


def _varied(asked: Asked, rng: Random) -> Asked:
    """A request with other numbers, sizes, poses and places; of several groups at times all of one thing."""
    free, things = MAX_THINGS - len(asked.things), []
    for thing in asked.things:
        count = min(1 + free, rng.choice((1, 1, 1, 2, 2, 3, 4, 5, 6)))
        free -= count - 1
        size: Size | None = rng.choice(("small", "big")) if rng.random() < VARIED_SHARE else None
        pose: Pose | None = rng.choice(POSES) if rng.random() < VARIED_SHARE else None
        things.append(replace(thing, count=count, size=size, pose=pose))
    if len(things) > 1 and rng.random() < SAME_SHARE:
        tints = rng.sample(TINTS, len(things))
        same = things[0].concept
        things = [
            replace(one, concept=same, colour=named_colour(tint)) for one, tint in zip(things, tints, strict=True)
        ]
    place = rng.choice(PLACES) if len(things) == 1 and rng.random() < 2 * PLACE_SHARE else None
    return replace(asked, things=tuple(things), place=place)


def _kind(rng: Random, kinds: Mapping[Kind, float] = KINDS) -> Kind:
    return rng.choices(list(kinds), list(kinds.values()))[0]


def _groups(kind: Kind, rng: Random) -> int:
    return {"one": 1, "count": 1, "row": rng.choice((3, 3, 4))}.get(kind, 2)


def _asked(kind: Kind, concepts: Sequence[Concept], tints: Sequence[Colour | None], rng: Random) -> Asked:
    """Draws the arrangement, numbers, sizes, poses and place of a scene of these concepts."""
    arrangement: Arrangement = "one" if kind == "count" else kind
    place = rng.choice(PLACES) if kind == "one" and rng.random() < PLACE_SHARE else None
    counts, left = [], MAX_THINGS - len(concepts)
    for _ in concepts:
        count = 1
        if kind == "count":
            count = rng.choices(list(COUNTS), list(COUNTS.values()))[0]
        elif kind in ("left", "above") and rng.random() < SEVERAL_SHARE:
            count = min(rng.choice((2, 2, 3, 4)), 1 + left, MAX_COUNT)
        left -= count - 1
        counts.append(count)
    sizes: list[Size | None] = [None] * len(concepts)
    poses: list[Pose | None] = [None] * len(concepts)
    if kind == "one" and place is None and rng.random() < SIZE_SHARE:
        sizes = [rng.choice(("small", "small", "big"))]
    elif kind in ("left", "above") and rng.random() < SIZE_SHARE:
        sizes = list(rng.choice(SIZES_OF_TWO))
    if kind in ("one", "left", "above") and rng.random() < POSE_SHARE:
        poses[rng.randrange(len(poses))] = rng.choice(("tilted", "mirrored", "upside_down"))
    things = (Thing(*each) for each in zip(concepts, counts, tints, sizes, poses, strict=True))
    return Asked(tuple(things), arrangement, place)
