"""Scenes of one to six cut-out emoji of which everything is known: things, numbers, colours, sizes, poses and places.

A scene is a pure function of the emoji set, a seed and its number. Only pictures of one split take part, the training
split by default, so that every known concept in every style can stand in a scene.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from random import Random
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sfumato.data.emoji.captions import COLOURS, STYLES, Colour, Concept
from sfumato.data.emoji.cutout import Cutout
from sfumato.data.emoji.dataset import EmojiData
from sfumato.data.emoji.nouns import TINTS
from sfumato.data.wording import Asked, Thing
from sfumato.errors import SfumatoError
from sfumato.nets.layout import MAX_COUNT, MAX_THINGS, PLACES, Arrangement, Group, Pose, Size, Spot, spots

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
WHITE = (255, 255, 255)

# How far a thing's mean colour has to be from a named ground, in 8-bit RGB.
CONTRAST = 90.0


@dataclass(frozen=True)
class Placed:
    """A thing of a scene: the number of its picture, its place in `Asked.things`, its tint, its `spot`.

    `order` counts from 0, the farthest.
    """

    picture: int
    group: int
    colour: Colour | None
    spot: Spot

    @property
    def order(self) -> int:
        return self.spot.order


@dataclass(frozen=True)
class Scene:
    """What is asked for, and one picture of it: the things, and the 8-bit RGB of the ground (white where none is
    named)."""

    asked: Asked
    style: str
    objects: tuple[Placed, ...]
    rgb: tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Drawn:
    """`picture` (3, S, S) in [-1, 1]; `masks` (K, S, S), bool, the pixels of each thing that can be seen; `depth`
    (S, S): 0 the ground, 1 the nearest thing's order, evenly between."""

    picture: Tensor
    masks: Tensor
    depth: Tensor


class Scenes:
    """An endless row of scenes; `scenes[number]` says what is where, `draw` makes it visible.

    `numbers` are the pictures that take part (default: the training split). Raises SfumatoError where fewer than four
    of a style are left.
    """

    def __init__(self, data: EmojiData, seed: int = 0, numbers: np.ndarray | None = None) -> None:
        self.data, self.seed = data, seed
        known: dict[str, list[int]] = {}
        for number in (data.splits["train"] if numbers is None else numbers).tolist():
            known.setdefault(data.style(number), []).append(number)
        self._known = {style: known[style] for style in STYLES if len(known.get(style, ())) > 3}
        if not self._known:
            raise SfumatoError(f"{data.path} has too few things to compose scenes of; build the whole emoji set")
        self._weights = [len(pictures) for pictures in self._known.values()]
        self._cached = lru_cache(1024)(self._make_cutout)

    def __getitem__(self, number: int) -> Scene:
        rng = Random(f"{self.seed}/{number}")
        style = rng.choices(list(self._known), self._weights)[0]
        kind = _kind(rng)
        pictures = rng.sample(self._known[style], _groups(kind, rng))
        tints = [self._tint(picture, rng) for picture in pictures]
        asked = _asked(kind, [self.data.concept(picture) for picture in pictures], tints, rng)
        groups = [Group(thing.count, thing.size, thing.pose) for thing in asked.things]
        where = spots(asked.arrangement, asked.place, groups, rng)
        objects = tuple(Placed(pictures[spot.group], spot.group, tints[spot.group], spot) for spot in where)
        ground = self._ground(objects, rng)
        rgb = ground.sample(rng) if ground else WHITE
        return Scene(replace(asked, style=style, ground=ground), style, objects, rgb)

    def draw(self, scene: Scene) -> Drawn:
        side = self.data.size
        canvas = np.tile(np.array(scene.rgb, np.float32) / 255, (side, side, 1))
        masks = np.zeros((len(scene.objects), side, side), bool)
        depth = np.zeros((side, side), np.float32)
        nearest = 1 + max(placed.order for placed in scene.objects)
        for k, placed in sorted(enumerate(scene.objects), key=lambda entry: entry[1].order):
            rgba, window = self._shown(placed)
            canvas[window] = canvas[window] * (1 - rgba[..., 3:]) + rgba[..., :3]
            seen = rgba[..., 3] > 0.5
            masks[(slice(None), *window)] &= ~seen
            masks[(k, *window)] = seen
            depth[window][seen] = (placed.order + 1) / nearest
        picture = torch.from_numpy(canvas).movedim(-1, 0).clamp(0, 1) * 2 - 1
        return Drawn(picture.contiguous(), torch.from_numpy(masks), torch.from_numpy(depth))

    def cutout(self, picture: int, colour: Colour | None = None) -> Cutout:
        """The thing that a picture shows, tinted if a colour is given."""
        return self._cached(picture, None if colour is None else colour.name)

    def _shown(self, placed: Placed) -> tuple[np.ndarray, tuple[slice, slice]]:
        """Premultiplied RGBA of a thing, and where it lies; what sticks out of the picture is cut off."""
        cutout, side, spot = self.cutout(placed.picture, placed.colour), self.data.size, placed.spot
        rgba = cutout.posed(*cutout.size(spot.side * side), spot.angle, spot.mirrored)
        height, width = rgba.shape[:2]
        left, top = round(spot.x * side - width / 2), round(spot.y * side - height / 2)
        rgba = rgba[max(0, -top) : side - top, max(0, -left) : side - left]
        top, left = max(0, top), max(0, left)
        return rgba, (slice(top, top + rgba.shape[0]), slice(left, left + rgba.shape[1]))

    def _make_cutout(self, picture: int, tint: str | None) -> Cutout:
        if tint is None:
            return Cutout.of(self.data.picture(picture))
        return self.cutout(picture).tinted(_colour(tint))

    def _tint(self, picture: int, rng: Random) -> Colour | None:
        wanted, name = rng.random() < TINT_SHARE, rng.choice(TINTS)
        return _colour(name) if wanted and self.cutout(picture).tintable else None

    def _ground(self, objects: tuple[Placed, ...], rng: Random) -> Colour | None:
        if rng.random() >= GROUND_SHARE:
            return None
        means = [self.cutout(placed.picture, placed.colour).mean for placed in objects]

        def stands_out(colour: Colour) -> bool:
            middle = np.add(colour.low, colour.high) / 2
            return all(np.linalg.norm(mean - middle) >= CONTRAST for mean in means)

        fitting = [colour for colour in COLOURS if stands_out(colour)]
        return rng.choice(fitting) if fitting else None


def invented(concepts: Sequence[Concept], rng: Random) -> Asked:
    """Something that nobody has drawn: a request for any of the concepts, in any colours, styles and grounds."""
    kind = _kind(rng)
    things = rng.sample(concepts, _groups(kind, rng))
    tints = [_colour(rng.choice(TINTS)) if rng.random() < TINT_SHARE else None for _ in things]
    style = rng.choice(STYLES) if rng.random() < STYLE_SHARE else None
    ground = rng.choice(COLOURS) if rng.random() < GROUND_SHARE else None
    return replace(_asked(kind, things, tints, rng), style=style, ground=ground)


def _kind(rng: Random) -> Kind:
    return rng.choices(list(KINDS), list(KINDS.values()))[0]


def _groups(kind: Kind, rng: Random) -> int:
    return {"one": 1, "count": 1, "row": rng.choice((3, 3, 4))}.get(kind, 2)


def _asked(kind: Kind, concepts: Sequence[Concept], tints: Sequence[Colour | None], rng: Random) -> Asked:
    """Numbers, sizes, poses and a place for these things."""
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


def _colour(name: str) -> Colour:
    return next(colour for colour in COLOURS if colour.name == name)
