"""Random masks for inpainting, as people draw them: things, boxes, brush strokes and sides."""

from __future__ import annotations

from random import Random

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from sfumato.images.mask import grown

KINDS = {"thing": 0.35, "box": 0.25, "strokes": 0.15, "side": 0.25}


def random_mask(things: Tensor, rng: Random) -> Tensor:
    """Draws a mask (1, 1, H, W) that is 1 where the picture is to be painted anew, and 0 elsewhere.

    `things` (K, H, W) are the visible pixels of the things in the picture, if they are known.
    """
    height, width = things.shape[1:]
    kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
    seen = [thing for thing in things if thing.any()]
    if kind == "thing" and seen:
        return _around(rng.choice(seen), rng)
    canvas = Image.new("L", (width, height))
    draw, u = ImageDraw.Draw(canvas), rng.uniform
    if kind == "side":
        share = u(0.25, 0.6)
        across, down = share * width, share * height
        left, top, right, bottom = rng.choice(
            [(0, 0, across, height), (width - across, 0, width, height), (0, 0, width, down),
             (0, height - down, width, height)]
        )  # fmt: skip
        draw.rectangle((left, top, right, bottom), fill=255)
    elif kind == "strokes":
        for _ in range(rng.randint(1, 3)):
            points = [(u(0, width), u(0, height)) for _ in range(rng.randint(2, 4))]
            draw.line(points, fill=255, width=round(u(0.08, 0.2) * min(width, height)), joint="curve")
    else:
        across, down = u(0.25, 0.75) * width, u(0.25, 0.75) * height
        left, top = u(0, width - across), u(0, height - down)
        draw.rectangle((left, top, left + across, top + down), fill=255)
    return torch.from_numpy(np.array(canvas)).float()[None, None] / 255


def _around(thing: Tensor, rng: Random) -> Tensor:
    """Returns a mask of the thing with a margin, or of the box around it."""
    mask = thing.float()[None, None]
    if rng.random() < 0.5:
        rows, columns = (thing.any(dim).nonzero() for dim in (1, 0))
        mask[..., rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = 1
    return grown(mask, round(rng.uniform(0.01, 0.08) * thing.shape[-1]))
