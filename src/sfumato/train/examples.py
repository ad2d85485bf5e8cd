"""Pictures of which everything is known: composed scenes and single emoji, with masks, depth and captions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import torch

from sfumato.data import captions, scene_captions
from sfumato.data.dataset import EmojiData, compose
from sfumato.data.scenes import Drawn, Scenes

OTHERS_SHARE = 0.1  # of flat scenes, where depth is to be learnt
WHITE = (255, 255, 255)


@dataclass(frozen=True, eq=False)
class Example:
    """`caption(rng)` is one of many, in any language."""

    drawn: Drawn
    caption: Callable[[Random], str]


class Examples:
    """An endless row of examples, each a function of the set, the seed and its number alone.

    `single` is the share of single emoji, as the base has learnt them. With `deep` many more scenes than usual are such
    in which one thing lies before another.
    """

    def __init__(self, data: EmojiData, seed: int, single: float, deep: bool = False):
        self.data, self.seed, self.single, self.deep = data, seed, single, deep
        self._scenes = Scenes(data, seed)
        self._train = data.splits["train"].tolist()

    def __getitem__(self, number: int) -> Example:
        rng = Random(f"{self.seed}/{number}")
        return self._one(rng) if rng.random() < self.single else self._scene(rng)

    def _one(self, rng: Random) -> Example:
        i, colour = rng.choice(self._train), captions.background(rng)
        rgba = self.data.picture(i).copy()
        thing = torch.from_numpy(rgba[..., 3] > 127)
        picture = compose(rgba, colour.sample(rng) if colour else WHITE)
        concept, style = self.data.concept(i), self.data.style(i)
        return Example(
            Drawn(picture, thing[None], thing.float()),
            lambda rng: captions.caption(concept, style, captions.language(rng), rng, colour),
        )

    def _scene(self, rng: Random) -> Example:
        scene = self._scenes[rng.randrange(1 << 40)]
        while self.deep and scene.kind != "front" and rng.random() > OTHERS_SHARE:
            scene = self._scenes[rng.randrange(1 << 40)]
        drawn = self._scenes.draw(scene)
        return Example(drawn, lambda rng: scene_captions.caption(scene, captions.language(rng), rng))
