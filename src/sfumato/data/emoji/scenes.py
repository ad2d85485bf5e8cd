"""Scenes of one to four cut-out emoji whose places, numbers, sizes and colours are known exactly.

A scene is a pure function of the emoji set, a seed and its number. Only pictures of the training split take part.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sfumato.data.emoji.captions import COLOURS, Colour
from sfumato.data.emoji.cutout import Cutout
from sfumato.data.emoji.dataset import EmojiData
from sfumato.data.emoji.nouns import TINTS, Noun, nouns
from sfumato.errors import SfumatoError

Kind = Literal["one", "left", "above", "front", "count", "sizes", "row"]
Place = Literal["left", "right", "top", "bottom"]
Box = tuple[int, int, int, int]

STYLES = ("3d", "flat", "gradient")
KINDS: dict[Kind, float] = {
    "one": 0.28,
    "left": 0.24,
    "above": 0.15,
    "front": 0.05,
    "count": 0.18,
    "sizes": 0.05,
    "row": 0.05,
}
TINT_SHARE = 0.5
BACKGROUND_SHARE = 0.5
WHITE = (255, 255, 255)

# How far an object's mean colour has to be from a named background, in 8-bit RGB.
CONTRAST = 90.0


@dataclass(frozen=True)
class Placed:
    """An object of a scene.

    `picture` is its number in the emoji set. `colour` is the tint and `size` the size that captions name, None where
    they name none. `box` is (left, top, right, bottom) in pixels, what lies behind others included; `order` counts from
    0, the farthest.
    """

    picture: int
    noun: Noun
    colour: Colour | None
    size: Literal["big", "small"] | None
    box: Box
    order: int


@dataclass(frozen=True)
class Scene:
    """Objects on a plain background, in the order in which captions speak of them.

    The first object of "left" is left of the second, that of "above" above it, that of "front" in front of it; "sizes"
    are a big and a small one, "row" is three from left to right, "count" two to four alike. `place` is where "one" is,
    if captions say so. `background` None is white that no caption mentions; `rgb` is what it is painted with.
    """

    kind: Kind
    style: str
    objects: tuple[Placed, ...]
    place: Place | None
    background: Colour | None
    rgb: tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Drawn:
    """`picture` (3, S, S) in [-1, 1]; `masks` (K, S, S), bool, the pixels of each object that can be seen; `depth`
    (S, S): 0 the background, 1 the nearest object's order, evenly between."""

    picture: Tensor
    masks: Tensor
    depth: Tensor


class Scenes:
    """An endless row of scenes; `scenes[number]` is a layout, `draw` makes it visible.

    Raises SfumatoError for a set that has no two of `nouns.tsv` in the training split of one style.
    """

    def __init__(self, data: EmojiData, seed: int = 0) -> None:
        self.data, self.seed = data, seed
        self._known: dict[str, list[tuple[Noun, int]]] = defaultdict(list)
        train = set(data.splits["train"].tolist())
        for noun in nouns():
            for style in STYLES:
                number = data.find(noun.hex, style)
                if number is not None and number in train:
                    self._known[style].append((noun, number))
        self._styles = [style for style in STYLES if len(self._known[style]) > 2]
        if not self._styles:
            raise SfumatoError(f"{data.path} has too few things to compose scenes of; build the whole emoji set")
        self._cached = lru_cache(4096)(self._make_cutout)

    def __getitem__(self, number: int) -> Scene:
        rng = Random(f"{self.seed}/{number}")
        kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
        style = rng.choice(self._styles)
        things = rng.sample(self._known[style], {"one": 1, "count": 1, "row": 3}.get(kind, 2))
        place, spots = _spots(kind, rng)
        colours = [self._tint(picture, kind, rng) for _, picture in things]
        if kind == "count":
            things, colours = things * len(spots), colours * len(spots)
        objects = tuple(
            self._placed(thing, colour, spot, order)
            for thing, colour, spot, order in zip(things, colours, spots, _orders(kind, len(spots)), strict=True)
        )
        background = self._background(objects, rng)
        rgb = background.sample(rng) if background else WHITE
        return Scene(kind, style, objects, place, background, rgb)

    def draw(self, scene: Scene) -> Drawn:
        side = self.data.size
        canvas = np.tile(np.array(scene.rgb, np.float32) / 255, (side, side, 1))
        masks = np.zeros((len(scene.objects), side, side), bool)
        depth = np.zeros((side, side), np.float32)
        nearest = 1 + max(placed.order for placed in scene.objects)
        for k, placed in sorted(enumerate(scene.objects), key=lambda entry: entry[1].order):
            left, top, right, bottom = placed.box
            rgba = self._cutout(placed.picture, placed.colour).scaled(right - left, bottom - top)
            window = (slice(top, bottom), slice(left, right))
            canvas[window] = canvas[window] * (1 - rgba[..., 3:]) + rgba[..., :3]
            seen = rgba[..., 3] > 0.5
            masks[(slice(None), *window)] &= ~seen
            masks[(k, *window)] = seen
            depth[window][seen] = (placed.order + 1) / nearest
        picture = torch.from_numpy(canvas).movedim(-1, 0).clamp(0, 1) * 2 - 1
        return Drawn(picture.contiguous(), torch.from_numpy(masks), torch.from_numpy(depth))

    def _cutout(self, picture: int, colour: Colour | None = None) -> Cutout:
        return self._cached(picture, None if colour is None else colour.name)

    def _make_cutout(self, picture: int, tint: str | None) -> Cutout:
        if tint is None:
            return Cutout.of(self.data.picture(picture))
        return self._cutout(picture).tinted(_colour(tint))

    def _tint(self, picture: int, kind: Kind, rng: Random) -> Colour | None:
        wanted, name = rng.random() < TINT_SHARE, rng.choice(TINTS)
        # A third name with its colour makes a caption longer than what the text tower reads.
        if not wanted or kind == "row" or not self._cutout(picture).tintable:
            return None
        return _colour(name)

    def _placed(self, thing: tuple[Noun, int], colour: Colour | None, spot: _Spot, order: int) -> Placed:
        noun, picture = thing
        side = self.data.size
        width, height = self._cutout(picture).size(spot.side * side)
        left = min(max(round(spot.x * side - width / 2), 0), side - width)
        top = min(max(round(spot.y * side - height / 2), 0), side - height)
        return Placed(picture, noun, colour, spot.size, (left, top, left + width, top + height), order)

    def _background(self, objects: tuple[Placed, ...], rng: Random) -> Colour | None:
        if rng.random() >= BACKGROUND_SHARE:
            return None
        means = [self._cutout(placed.picture, placed.colour).mean for placed in objects]

        def stands_out(colour: Colour) -> bool:
            middle = np.add(colour.low, colour.high) / 2
            return all(np.linalg.norm(mean - middle) >= CONTRAST for mean in means)

        return rng.choice([colour for colour in COLOURS if stands_out(colour)])


@dataclass(frozen=True)
class _Spot:
    """Middle and longer edge of an object, as shares of the picture's edge."""

    x: float
    y: float
    side: float
    size: Literal["big", "small"] | None = None


def _colour(name: str) -> Colour:
    return next(colour for colour in COLOURS if colour.name == name)


def _orders(kind: Kind, count: int) -> list[int]:
    return [1, 0] if kind == "front" else [0] * count


def _spots(kind: Kind, rng: Random) -> tuple[Place | None, list[_Spot]]:
    """Where the objects of a scene lie; for "one" also the place that captions name."""
    u = rng.uniform
    match kind:
        case "one":
            return _one(rng)
        case "left" | "above":
            middle, slope = u(0.42, 0.58), u(-0.06, 0.06)
            along = [(u(0.23, 0.27), middle + slope), (u(0.73, 0.77), middle - slope)]
            return None, [_Spot(*(spot if kind == "left" else spot[::-1]), u(0.38, 0.46)) for spot in along]
        case "front":
            x, y, side = u(0.12, 0.17) * rng.choice((-1, 1)), u(0.08, 0.14), u(0.5, 0.58)
            return None, [_Spot(0.5 + x, 0.5 + y, side), _Spot(0.5 - x, 0.5 - y, side)]
        case "sizes":
            big, small, x = u(0.56, 0.64), u(0.24, 0.29), rng.choice((1, -1))
            return None, [
                _Spot(0.5 - 0.16 * x, u(0.42, 0.58), big, "big"),
                _Spot(0.5 + 0.34 * x, u(0.35, 0.65), small, "small"),
            ]
        case "row":
            y, side = u(0.4, 0.6), u(0.26, 0.3)
            return None, [_Spot(x, y + u(-0.02, 0.02), side) for x in (0.18, 0.5, 0.82)]
        case "count":
            return None, _several(rng.randint(2, 4), rng)


def _one(rng: Random) -> tuple[Place | None, list[_Spot]]:
    u, form = rng.uniform, rng.random()
    if form < 0.5:
        return None, [_Spot(0.5, 0.5, u(0.7, 0.95))]
    if form < 0.65:
        return None, [_Spot(u(0.4, 0.6), u(0.4, 0.6), u(0.26, 0.36), "small")]
    if form < 0.75:
        return None, [_Spot(0.5, 0.5, u(0.85, 0.97), "big")]
    near, across = u(0.22, 0.27), u(0.42, 0.58)
    places: dict[Place, tuple[float, float]] = {
        "left": (near, across),
        "right": (1 - near, across),
        "top": (across, near),
        "bottom": (across, 1 - near),
    }
    place = rng.choice(list(places))
    return place, [_Spot(*places[place], u(0.36, 0.46))]


def _several(count: int, rng: Random) -> list[_Spot]:
    """Equal things side by side, in a triangle or in a square."""
    u = rng.uniform
    if count < 4 and (count == 2 or rng.random() < 0.5):
        y, side = u(0.42, 0.58), u(0.38, 0.46) if count == 2 else u(0.26, 0.3)
        return [_Spot(x, y, side) for x in ((0.26, 0.74) if count == 2 else (0.18, 0.5, 0.82))]
    top = (0.26, 0.74) if count == 4 else (0.5,)
    side = u(0.36, 0.43)
    return [_Spot(x, 0.26, side) for x in top] + [_Spot(x, 0.74, side) for x in (0.26, 0.74)]
