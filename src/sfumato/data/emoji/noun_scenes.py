"""Scenes of one to four things of `nouns.tsv`; `scene_captions` has the words for them.

Only pictures of the training split take part.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal

import numpy as np

from sfumato.data.emoji.captions import Colour
from sfumato.data.emoji.dataset import EmojiData
from sfumato.data.emoji.nouns import Noun, nouns
from sfumato.data.emoji.scenes import ComposedScenes, painted
from sfumato.data.protocol import Rgb

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


@dataclass(frozen=True)
class PlacedNoun:
    """A thing in a scene.

    `picture` is the number of its picture in the set. `colour` is its tint and `size` its size, None if captions do not
    name them. `box` is (left, top, right, bottom) in pixels and counts parts that other things hide. `order` says how
    far in front the thing lies; 0 is the farthest.
    """

    picture: int
    noun: Noun
    colour: Colour | None
    size: Literal["big", "small"] | None
    box: Box
    order: int


@dataclass(frozen=True)
class NounScene:
    """Things on a plain background, in the order in which captions name them.

    In "left" the first thing is left of the second, in "above" above it, in "front" in front of it. "sizes" has a big
    and a small thing, "row" three things from left to right, "count" two to four equal things, "one" a single thing.
    `place` is where the thing of "one" lies, None if captions do not say it. `background` is None for white that
    captions do not mention; `rgb` is the colour that is painted.
    """

    kind: Kind
    style: str
    objects: tuple[PlacedNoun, ...]
    place: Place | None
    background: Colour | None
    rgb: Rgb


class NounScenes(ComposedScenes[PlacedNoun]):
    """An endless row of scenes of nouns: `scenes[number]` is a layout, and `draw` renders it.

    Raises SfumatoError if every style has fewer than three of the nouns in the training split.
    """

    least_pictures = 3
    kept_cutouts = 4096

    def __init__(self, data: EmojiData, seed: int = 0) -> None:
        train = set(data.splits["train"].tolist())
        self._nouns: dict[int, Noun] = {}
        pictures: dict[str, list[int]] = {style: [] for style in STYLES}
        for noun in nouns():
            for style in STYLES:
                number = data.find(noun.hex, style)
                if number is not None and number in train:
                    pictures[style].append(number)
                    self._nouns[number] = noun
        super().__init__(data, seed, pictures)

    def __getitem__(self, number: int) -> NounScene:
        """Returns scene `number`, a pure function of the set, the seed and the number."""
        rng = Random(f"{self.seed}/{number}")
        kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
        style = rng.choice(list(self.pictures))
        pictures = rng.sample(self.pictures[style], {"one": 1, "count": 1, "row": 3}.get(kind, 2))
        place, spots = _spots(kind, rng)
        colours = [self.tint(picture, TINT_SHARE, rng) for picture in pictures]
        if kind == "row":
            # A third name with its colour makes a caption longer than what the text tower reads.
            colours = [None] * len(pictures)
        if kind == "count":
            pictures, colours = pictures * len(spots), colours * len(spots)
        objects = tuple(
            self._placed(picture, colour, spot, order)
            for picture, colour, spot, order in zip(pictures, colours, spots, _orders(kind, len(spots)), strict=True)
        )
        background = self.ground(objects, BACKGROUND_SHARE, rng)
        return NounScene(kind, style, objects, place, background, painted(background, rng))

    def patch(self, placed: PlacedNoun) -> tuple[np.ndarray, int, int]:
        """See `ComposedScenes.patch`; the thing is scaled to its box."""
        left, top, right, bottom = placed.box
        return self.cutout(placed.picture, placed.colour).scaled(right - left, bottom - top), left, top

    def _placed(self, picture: int, colour: Colour | None, spot: _Spot, order: int) -> PlacedNoun:
        side = self.data.size
        width, height = self.cutout(picture).size(spot.side * side)
        left = min(max(round(spot.x * side - width / 2), 0), side - width)
        top = min(max(round(spot.y * side - height / 2), 0), side - height)
        box = (left, top, left + width, top + height)
        return PlacedNoun(picture, self._nouns[picture], colour, spot.size, box, order)


@dataclass(frozen=True)
class _Spot:
    """Where a thing lies: its middle and its longer edge, as shares of the picture's edge, and its size in words."""

    x: float
    y: float
    side: float
    size: Literal["big", "small"] | None = None


def _orders(kind: Kind, count: int) -> list[int]:
    """Returns for each thing how far in front it lies."""
    return [1, 0] if kind == "front" else [0] * count


def _spots(kind: Kind, rng: Random) -> tuple[Place | None, list[_Spot]]:
    """Draws where the things of a scene lie, and for "one" the place that captions name."""
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
    """Draws where a single thing lies, and the place that captions name."""
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
    """Draws spots of equal things side by side, in a triangle or in a square."""
    u = rng.uniform
    if count < 4 and (count == 2 or rng.random() < 0.5):
        y, side = u(0.42, 0.58), u(0.38, 0.46) if count == 2 else u(0.26, 0.3)
        return [_Spot(x, y, side) for x in ((0.26, 0.74) if count == 2 else (0.18, 0.5, 0.82))]
    top = (0.26, 0.74) if count == 4 else (0.5,)
    side = u(0.36, 0.43)
    return [_Spot(x, 0.26, side) for x in top] + [_Spot(x, 0.74, side) for x in (0.26, 0.74)]
