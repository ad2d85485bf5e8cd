"""Pictures and texts of the emoji set with labels, which say in numbers what each of them shows or asks for.

A network that compares pictures with texts learns from single pictures on any background and from composed scenes. Of
some concepts the picture in one style is held out, so that it can be measured on pictures that it never saw.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from functools import lru_cache
from random import Random

import numpy as np
import torch
import torch.nn.functional as F

from sfumato.data.emoji import captions, wording
from sfumato.data.emoji.captions import COLOURS, LANGUAGES, STYLES, Colour
from sfumato.data.emoji.concept_scenes import ConceptScene, ConceptScenes, invent_request
from sfumato.data.emoji.dataset import EmojiData
from sfumato.data.emoji.nouns import TINTS
from sfumato.data.emoji.wording import Asked, Thing
from sfumato.data.protocol import UNKNOWN, LabelledPicture
from sfumato.nets.layout import ARRANGEMENTS, MAX_GROUPS, MAX_THINGS

COLOUR_NAMES = [colour.name for colour in COLOURS]
SIDE = 96  # pixels that pictures are kept at: twice what the image tower sees
SCENE_SHARE, SCENES = 0.12, 2048
HELD_OUT_SHARE = 0.1  # of the concepts, each in one style
NAMED_GROUND, ANY_GROUND = 0.15, 0.15  # of single pictures; the others are on white
# Shares of texts: scenes; of texts of one thing bare names, keywords and canonical ones; with a style.
SCENE_TEXTS, BARE, KEYWORDS, CANONICAL, STYLED = 0.2, 0.25, 0.1, 0.4, 0.7
# Pictures that mean something else when they are mirrored or turned, and words for colours that are part of a name.
FIXED = (
    "alphanum",
    "keycap",
    "arrow",
    "math",
    "punctuation",
    "time",
    "currency",
    "av-symbol",
    "other-symbol",
    "zodiac",
)
SIDED = ("left", "right")
COLOURED = (*COLOUR_NAMES, "light", "dark", "rainbow", "gold", "silver", "bronze")


class LabelledEmoji:
    """The emoji set with its pictures at SIDE pixels, with labels: `protocol.LabelledPictures`."""

    def __init__(self, data: EmojiData, seed: int) -> None:
        self.data = data
        self._small = shrunk(data, SIDE)
        self._number = {concept.hex: k for k, concept in enumerate(data.concepts)}
        self.kinds = {
            "concept": (MAX_GROUPS, len(data.concepts)),
            "style": (1, len(STYLES) + 1),
            "ground": (1, len(COLOURS) + 1),
            "tint": (1, len(TINTS) + 1),
            "count": (1, MAX_THINGS),
            "arrangement": (1, len(ARRANGEMENTS)),
        }
        self.held_out = held_out(data, seed)
        self.numbers = np.setdiff1d(np.arange(len(data)), self.held_out)
        self._scenes = ConceptScenes(self._small, seed, self.numbers)
        self._drawn = lru_cache(SCENES)(self._draw)

    def picture(self, number: int, rng: Random) -> LabelledPicture:
        """See `protocol.LabelledPictures`; single pictures lie on white, on a named colour or on any colour."""
        if rng.random() < SCENE_SHARE:
            scene, rgba = self._drawn(rng.randrange(SCENES))
            white = None if scene.asked.ground else COLOURS[0]
            return LabelledPicture(rgba, scene.rgb, self._shown(scene.asked, white), False, False, whole=True)
        concept = self.data.concept(number)
        chance, rgb = rng.random(), (255, 255, 255)
        ground: Colour | None = COLOURS[0]
        if chance < NAMED_GROUND:
            ground = rng.choice(COLOURS)
            rgb = ground.sample(rng)
        elif chance < NAMED_GROUND + ANY_GROUND:
            ground, rgb = None, (rng.randrange(256), rng.randrange(256), rng.randrange(256))
        name = concept.names["en"].casefold()
        return LabelledPicture(
            self._small.picture(number),
            rgb,
            self._shown(Asked((Thing(concept),), style=self.data.style(number)), ground),
            movable=concept.subgroup not in FIXED and not any(word in name for word in SIDED),
            tintable=not any(word in name for word in COLOURED),
            whole=False,
        )

    def text(self, rng: Random) -> tuple[str, list[int]]:
        """See `protocol.LabelledPictures`."""
        language = captions.language(rng)
        if rng.random() < SCENE_TEXTS:
            asked = invent_request(self.data.concepts, rng)
            held = rng.random() < CANONICAL
            return wording.canonical(asked, language) if held else wording.say(asked, language, rng), self._said(asked)
        concept, chance = rng.choice(self.data.concepts), rng.random()
        things = (Thing(concept),)
        if chance < BARE + KEYWORDS:
            words = wording.keywords(concept, language, rng) if chance < KEYWORDS else None
            text = wording.say_keywords(words, language, rng) if words else concept.names[language]
            return text, self._said(Asked(things))
        style = rng.choice(STYLES) if rng.random() < STYLED else None
        asked = Asked(things, style=style, ground=rng.choice(COLOURS) if rng.random() < NAMED_GROUND else None)
        plain = chance < BARE + KEYWORDS + CANONICAL
        return wording.canonical(asked, language) if plain else wording.say(asked, language, rng), self._said(asked)

    def corpus(self, count: int) -> Iterator[str]:
        """See `protocol.LabelledPictures`."""
        rng = Random(0)
        for concept in self.data.concepts:
            for language in LANGUAGES:
                yield from (concept.names[language],) * 3
                yield from concept.keywords[language]
        for _ in range(count):
            yield self.text(rng)[0]

    def pictures(self, numbers: np.ndarray) -> np.ndarray:
        """See `protocol.LabelledPictures`."""
        return self._small.pictures(numbers)

    def name(self, subject: int, language: str) -> str:
        """See `protocol.LabelledPictures`."""
        return self.data.concepts[subject].names[language]

    def key(self, number: int) -> str:
        """See `protocol.LabelledPictures`: style and hex code, as in `holdout.json`."""
        return f"{self.data.style(number)}/{self.data.concept(number).hex}"

    def _said(self, asked: Asked) -> list[int]:
        """Returns the labels of a text; what it leaves open is of the last class."""
        return [
            *self._concepts(asked),
            STYLES.index(asked.style) if asked.style else len(STYLES),
            COLOUR_NAMES.index(asked.ground.name) if asked.ground else len(COLOURS),
            self._tint(asked, len(TINTS)),
            *self._form(asked),
        ]

    def _shown(self, asked: Asked, ground: Colour | None) -> list[int]:
        """Returns the labels of a picture on a background (None: that of the request, or one without a name)."""
        named = asked.ground or ground
        return [
            *self._concepts(asked),
            STYLES.index(asked.style) if asked.style else UNKNOWN,
            COLOUR_NAMES.index(named.name) if named else UNKNOWN,
            self._tint(asked, UNKNOWN),
            *self._form(asked),
        ]

    def _concepts(self, asked: Asked) -> list[int]:
        concepts = [self._number[thing.concept.hex] for thing in asked.things]
        return [*concepts, *[UNKNOWN] * (MAX_GROUPS - len(concepts))]

    @staticmethod
    def _tint(asked: Asked, without: int) -> int:
        tint = asked.things[0].colour
        return TINTS.index(tint.name) if tint else without

    @staticmethod
    def _form(asked: Asked) -> list[int]:
        return [sum(thing.count for thing in asked.things) - 1, ARRANGEMENTS.index(asked.arrangement)]

    def _draw(self, number: int) -> tuple[ConceptScene, np.ndarray]:
        """Returns a scene and its picture, uint8 RGBA (S, S, 4)."""
        scene = self._scenes[number]
        rgb = ((self._scenes.draw(scene).picture.movedim(0, -1) + 1) * 127.5).round().byte().numpy()
        return scene, np.dstack([rgb, np.full_like(rgb[..., :1], 255)])


def held_out(data: EmojiData, seed: int) -> np.ndarray:
    """Returns the numbers of the pictures that a network of this seed must not see, ascending.

    They are those that no training sees, and one style each of HELD_OUT_SHARE of the concepts.
    """
    kept = set(data.splits["unseen_picture"].tolist())
    rng = Random(f"held out/{seed}")
    for concept in data.concepts:
        numbers = [number for style in STYLES if (number := data.find(concept.hex, style)) is not None]
        if rng.random() < HELD_OUT_SHARE and len(numbers) > 3 and not kept.intersection(numbers):
            kept.add(rng.choice(numbers))
    return np.array(sorted(kept), np.int64)


def shrunk(data: EmojiData, side: int) -> EmojiData:
    """Returns the set with its pictures at another size, in memory."""
    small = copy.copy(data)
    small.size = side
    small._pictures = {style: _shrunk(pictures, side) for style, pictures in data._pictures.items()}
    return small


def _shrunk(pictures: np.ndarray, side: int) -> np.ndarray:
    out = np.empty((len(pictures), side, side, 4), np.uint8)
    for rows in np.array_split(np.arange(len(pictures)), math.ceil(len(pictures) / 64)):
        rgba = torch.from_numpy(np.array(pictures[rows])).float().movedim(-1, 1)
        rgba[:, :3] *= rgba[:, 3:] / 255
        rgba = F.interpolate(rgba, (side, side), mode="bilinear", antialias=True)
        rgba[:, :3] *= 255 / rgba[:, 3:].clamp(min=1)
        out[rows] = rgba.clamp(0, 255).round().byte().movedim(1, -1).numpy()
    return out
