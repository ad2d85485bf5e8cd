"""What an object is: the judge compares its form with those of real pictures of all things that scenes are made of.

Captions give things colours of their own ("a blue banana"), so colour is taken out of both. Of the real pictures those
in other styles are compared: a drawn thing is as new to the judge as a real one of the same style.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.data.dataset import EmojiData, compose
from sfumato.data.nouns import Noun, nouns
from sfumato.data.scenes import STYLES, WHITE
from sfumato.evaluate.judge import Judge
from sfumato.evaluate.objects import Found, cut_out
from sfumato.evaluate.pictures import BATCH

SHADE, SPREAD, FLAT = -0.1, 0.4, 0.05  # of an object's light: the mean and deviation it is brought to, and a floor


@dataclass(frozen=True, eq=False)
class Names:
    """`forms[style]` (V, 2, E) are the judge's vectors of the V nouns; zeros where the style lacks one."""

    judge: Judge
    size: int
    nouns: tuple[Noun, ...]
    forms: dict[str, Tensor]

    @classmethod
    def of(cls, data: EmojiData, judge: Judge) -> Names:
        """Of the nouns that the set has in any style of scenes."""
        known = tuple(noun for noun in nouns() if any(data.find(noun.hex, style) is not None for style in STYLES))
        forms = {}
        for style in STYLES:
            numbers = [data.find(noun.hex, style) for noun in known]
            found = [(k, number) for k, number in enumerate(numbers) if number is not None]
            forms[style] = torch.zeros(len(known), 2, judge.width)
            if found:
                views = torch.stack([_real(data, number) for _, number in found])
                forms[style][[k for k, _ in found]] = _vectors(judge, views)
        return cls(judge, data.size, known, forms)

    def place(self, noun: Noun) -> int:
        """Of a noun among `nouns`."""
        return self.nouns.index(noun)

    def likeness(self, x: Tensor, objects: Sequence[Found], style: str) -> Tensor:
        """How like each of M objects of a picture (3, H, W) in [-1, 1] is to each noun: (M, V), the mean cosine of its
        two views to the nearest real picture in a style other than `style`."""
        if not objects:
            return torch.zeros(0, len(self.nouns))
        mine = _vectors(self.judge, torch.stack([views(x, found, self.size) for found in objects]))
        others = torch.stack([forms for name, forms in self.forms.items() if name != style])
        return torch.einsum("mke,svke->msv", mine, others).amax(1) / mine.shape[1]


def views(x: Tensor, found: Found, size: int) -> Tensor:
    """An object of a picture (3, H, W) without its colours (2, 3, size, size): light and shade alone, and its outline.

    Light is the largest channel, which keeps its order when a thing is given another hue.
    """
    light = x.amax(0)
    inside = light[found.mask]
    light = ((light - inside.mean()) / (inside.std(correction=0) + FLAT) * SPREAD + SHADE).clamp(-1, 1)
    return torch.stack([cut_out(plane.expand_as(x), found, size) for plane in (light, torch.full_like(light, -1))])


def _real(data: EmojiData, number: int) -> Tensor:
    rgba = data.picture(number)
    seen = torch.from_numpy(rgba[..., 3] > 127)
    return views(compose(rgba.copy(), WHITE), Found.of(seen), data.size)


def _vectors(judge: Judge, views: Tensor) -> Tensor:
    """(M, 2, E) of views (M, 2, 3, S, S)."""
    return torch.cat([judge.pictures(x) for x in views.flatten(0, 1).split(BATCH)]).unflatten(0, views.shape[:2])
