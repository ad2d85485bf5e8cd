"""Composed scenes: cut-out emoji on a plain background, of which everything is known.

This file keeps the cut-outs, tints them, chooses backgrounds and draws. Two files decide what a scene shows, where it
lies and which words say it. `concept_scenes` makes scenes of all things of the set, from which models learn to draw and
to read, and on which they are evaluated. `noun_scenes` makes simpler ones of 118 things with hand-made words, for
denoisers that learn from captions, and for other trainers (`sfumato data build scenes`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import ClassVar, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from sfumato.data.emoji.captions import COLOURS, Colour
from sfumato.data.emoji.cutout import Cutout
from sfumato.data.emoji.dataset import EmojiData
from sfumato.data.emoji.nouns import TINTS
from sfumato.data.protocol import Rgb
from sfumato.errors import SfumatoError

WHITE = (255, 255, 255)

# The least distance of a thing's mean colour from a named ground, in 8-bit RGB.
CONTRAST = 90.0


class Placed(Protocol):
    """A thing in a scene: the number of its picture, its tint, and how far in front it lies (0 is the farthest)."""

    @property
    def picture(self) -> int: ...

    @property
    def colour(self) -> Colour | None: ...

    @property
    def order(self) -> int: ...


P = TypeVar("P", bound=Placed)
P_co = TypeVar("P_co", bound=Placed, covariant=True)


class Scene(Protocol[P_co]):
    """What `ComposedScenes.draw` needs of a scene: its things, and the 8-bit RGB of its background."""

    @property
    def objects(self) -> Sequence[P_co]: ...

    @property
    def rgb(self) -> Rgb: ...


@dataclass(frozen=True, eq=False)
class Drawn:
    """A drawn scene of K things.

    `picture` (3, S, S) is in [-1, 1]. `masks` (K, S, S), bool, are the visible pixels of each thing. `depth` (S, S) is
    0 on the background and 1 on the nearest thing; the others lie evenly between.
    """

    picture: Tensor
    masks: Tensor
    depth: Tensor


class ComposedScenes(ABC, Generic[P]):
    """An endless row of scenes, each a pure function of the set, the seed and its number.

    `pictures` are the numbers of the pictures that may take part, by style. Raises SfumatoError if every style has
    fewer than `least_pictures` of them.
    """

    least_pictures: ClassVar[int]
    kept_cutouts: ClassVar[int]

    def __init__(self, data: EmojiData, seed: int, pictures: Mapping[str, Sequence[int]]) -> None:
        self.data, self.seed = data, seed
        self.pictures = {style: numbers for style, numbers in pictures.items() if len(numbers) >= self.least_pictures}
        if not self.pictures:
            raise SfumatoError(f"{data.path} has too few things to compose scenes of; build the whole emoji set")
        self._cached = lru_cache(self.kept_cutouts)(self._make_cutout)

    @abstractmethod
    def __getitem__(self, number: int) -> Scene[P]:
        """Returns scene `number`, a whole number from 0."""

    @abstractmethod
    def patch(self, placed: P) -> tuple[np.ndarray, int, int]:
        """Returns a thing as float RGBA (h, w, 4) in [0, 1], premultiplied, and its left and top edge in pixels."""

    def draw(self, scene: Scene[P]) -> Drawn:
        """Draws the things on the background, the farthest first; what sticks out of the picture is cut off."""
        side = self.data.size
        canvas = np.tile(np.array(scene.rgb, np.float32) / 255, (side, side, 1))
        masks = np.zeros((len(scene.objects), side, side), bool)
        depth = np.zeros((side, side), np.float32)
        nearest = 1 + max(placed.order for placed in scene.objects)
        for k, placed in sorted(enumerate(scene.objects), key=lambda entry: entry[1].order):
            rgba, left, top = self.patch(placed)
            rgba = rgba[max(0, -top) : side - top, max(0, -left) : side - left]
            top, left = max(0, top), max(0, left)
            window = (slice(top, top + rgba.shape[0]), slice(left, left + rgba.shape[1]))
            canvas[window] = canvas[window] * (1 - rgba[..., 3:]) + rgba[..., :3]
            visible = rgba[..., 3] > 0.5
            masks[(slice(None), *window)] &= ~visible
            masks[(k, *window)] = visible
            depth[window][visible] = (placed.order + 1) / nearest
        picture = torch.from_numpy(canvas).movedim(-1, 0).clamp(0, 1) * 2 - 1
        return Drawn(picture.contiguous(), torch.from_numpy(masks), torch.from_numpy(depth))

    def cutout(self, picture: int, colour: Colour | None = None) -> Cutout:
        """Returns the thing that a picture shows, tinted if a colour is given."""
        return self._cached(picture, None if colour is None else colour.name)

    def tint(self, picture: int, share: float, rng: Random) -> Colour | None:
        """Draws a tint for the share `share` of the things, and None for the others and for those that take no tint."""
        wanted, name = rng.random() < share, rng.choice(TINTS)
        return named_colour(name) if wanted and self.cutout(picture).tintable else None

    def ground(self, objects: Sequence[P], share: float, rng: Random) -> Colour | None:
        """Draws a named background for the share `share` of the scenes, and None for the others.

        All things stand out from it: their mean colours are at least CONTRAST away. None is also returned if no colour
        fits.
        """
        if rng.random() >= share:
            return None
        means = [self.cutout(placed.picture, placed.colour).mean for placed in objects]

        def stands_out(colour: Colour) -> bool:
            middle = np.add(colour.low, colour.high) / 2
            return all(np.linalg.norm(mean - middle) >= CONTRAST for mean in means)

        fitting = [colour for colour in COLOURS if stands_out(colour)]
        return rng.choice(fitting) if fitting else None

    def _make_cutout(self, picture: int, tint: str | None) -> Cutout:
        if tint is None:
            return Cutout.of(self.data.picture(picture))
        return self.cutout(picture).tinted(named_colour(tint))


def painted(ground: Colour | None, rng: Random) -> Rgb:
    """Returns the 8-bit RGB of a background: some value of the named colour, or white for None."""
    return ground.sample(rng) if ground else WHITE


def named_colour(name: str) -> Colour:
    """Returns the colour of `captions.COLOURS` with this English name."""
    return next(colour for colour in COLOURS if colour.name == name)
