"""What an object is: the judge compares it with real pictures of all things that scenes are made of.

Where captions give a thing a colour of its own ("a blue banana"), colour is taken out of both. Of the real pictures
those in other styles are compared: a drawn thing is as new to the judge as a real one of the same style.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.data.emoji.dataset import EmojiData
from sfumato.data.emoji.noun_scenes import STYLES
from sfumato.data.emoji.nouns import Noun, nouns
from sfumato.data.emoji.scenes import WHITE
from sfumato.evaluate.judge import Judge
from sfumato.evaluate.objects import Found, cut_out
from sfumato.evaluate.pictures import BATCH
from sfumato.images.tensors import compose

VIEWS = 3
SHADE, SPREAD, FLAT = -0.1, 0.4, 0.05  # of an object's light: the mean and deviation it is brought to, and a floor


@dataclass(frozen=True, eq=False)
class Names:
    """`real[style]` (V, 3, E) are the judge's vectors of the V nouns, see `views`; zeros where the style lacks one."""

    judge: Judge
    size: int
    nouns: tuple[Noun, ...]
    real: dict[str, Tensor]

    @classmethod
    def of(cls, data: EmojiData, judge: Judge) -> Names:
        """Of the nouns that the set has in any style of scenes."""
        known = tuple(noun for noun in nouns() if any(data.find(noun.hex, style) is not None for style in STYLES))
        real = {}
        for style in STYLES:
            numbers = [data.find(noun.hex, style) for noun in known]
            found = [(k, number) for k, number in enumerate(numbers) if number is not None]
            real[style] = torch.zeros(len(known), VIEWS, judge.width)
            if found:
                views = torch.stack([_real(data, number) for _, number in found])
                real[style][[k for k, _ in found]] = _vectors(judge, views)
        return cls(judge, data.size, known, real)

    def place(self, noun: Noun) -> int:
        """Of a noun among `nouns`."""
        return self.nouns.index(noun)

    def likeness(self, x: Tensor, objects: Sequence[Found], style: str) -> Tensor:
        """How like each of M objects of a picture (3, H, W) in [-1, 1] is to each noun, without and with its colours:
        (2, M, V), the mean cosine of its views to the nearest real picture in a style other than `style`."""
        if not objects:
            return torch.zeros(2, 0, len(self.nouns))
        mine = _vectors(self.judge, torch.stack([views(x, found, self.size) for found in objects]))
        others = torch.stack([real for name, real in self.real.items() if name != style])
        cosines = torch.einsum("mke,svke->kmsv", mine, others)
        return torch.stack([cosines[:-1].mean(0).amax(1), cosines.mean(0).amax(1)])


def views(x: Tensor, found: Found, size: int) -> Tensor:
    """An object of a picture (3, H, W) as (3, 3, size, size): light and shade alone, its outline, and as it is.

    Light is the largest channel, which keeps its order when a thing is given another hue.
    """
    light = x.amax(0)
    inside = light[found.mask]
    light = ((light - inside.mean()) / (inside.std(correction=0) + FLAT) * SPREAD + SHADE).clamp(-1, 1)
    planes = (light.expand_as(x), torch.full_like(x, -1), x)
    return torch.stack([cut_out(plane, found, size) for plane in planes])


def _real(data: EmojiData, number: int) -> Tensor:
    rgba = data.picture(number)
    seen = torch.from_numpy(rgba[..., 3] > 127)
    return views(compose(rgba.copy(), WHITE), Found.of(seen), data.size)


def _vectors(judge: Judge, views: Tensor) -> Tensor:
    """(M, 3, E) of views (M, 3, 3, S, S)."""
    return torch.cat([judge.pictures(x) for x in views.flatten(0, 1).split(BATCH)]).unflatten(0, views.shape[:2])
