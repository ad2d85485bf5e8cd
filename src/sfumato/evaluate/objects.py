"""The objects of a picture on a plain ground: where they are, and each of them cut out as a picture of its own.

What differs from the ground is an object, and what is connected is one. Objects that touch are therefore found as one;
no attempt is made to part them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

GRID = 64  # cells a side in which connection is decided, so that a crack narrower than one does not part a thing
CONTRAST = 24  # of 255, in the channel that differs most: above what an autoencoder leaves of noise
SPECK = 0.005  # share of the picture below which something is no object
FRAME = 2  # pixels around the picture that are taken for its ground
MARGIN = 0.04  # of the longer side around a cut-out object, as the set's pictures have it

Box = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class Found:
    """An object: its pixels, bool (H, W), and the box around them, (left, top, right, bottom) with exclusive ends."""

    mask: Tensor
    box: Box

    @classmethod
    def of(cls, mask: Tensor) -> Found:
        """What the mask covers, which is something."""
        rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
        return cls(mask, (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))

    @property
    def centre(self) -> tuple[float, float]:
        """Of the box, in pixels from the left and from the top."""
        left, top, right, bottom = self.box
        return (left + right) / 2, (top + bottom) / 2


def ground(x: Tensor) -> Tensor:
    """The 8-bit colour (B, 3) of the outermost pixels of pictures (B, 3, H, W) in [-1, 1]: their median."""
    inner = torch.zeros(x.shape[2:], dtype=torch.bool)
    inner[FRAME:-FRAME, FRAME:-FRAME] = True
    return (x[:, :, ~inner].median(2).values + 1) * 127.5


def find_objects(x: Tensor) -> list[list[Found]]:
    """The objects in each of pictures (B, 3, H, W) in [-1, 1], the largest first."""
    ahead = ((x + 1) * 127.5 - ground(x)[:, :, None, None]).abs().amax(1) > CONTRAST
    cell = max(1, max(x.shape[2:]) // GRID)
    coarse = F.max_pool2d(ahead[:, None].float(), cell, ceil_mode=True)[:, 0] > 0
    fine = connected(coarse).repeat_interleave(cell, 1).repeat_interleave(cell, 2)
    return [_sorted(labels * mask) for labels, mask in zip(fine[:, : x.shape[2], : x.shape[3]], ahead, strict=True)]


def _sorted(labels: Tensor) -> list[Found]:
    numbers, areas = labels[labels > 0].unique(return_counts=True)
    order = areas.argsort(descending=True, stable=True)
    return [Found.of(labels == numbers[k]) for k in order if areas[k] >= SPECK * labels.numel()]


def connected(mask: Tensor) -> Tensor:
    """Numbers of the connected parts (8 neighbours) of masks (B, H, W): int64, one to a part, 0 outside.

    Each cell takes the largest number around it and then that cell's own, so that the way doubles with every round.
    """
    inside = mask.double()
    labels = torch.arange(1, mask[0].numel() + 1).view_as(mask[0]) * inside
    while True:
        grown = F.max_pool2d(labels[:, None], 3, 1, 1)[:, 0] * inside
        known = F.pad(grown.flatten(1), (1, 0))
        grown = known.gather(1, grown.long().flatten(1)).view_as(labels)
        if torch.equal(grown, labels):
            return labels.long()
        labels = grown


def cut_out(x: Tensor, found: Found, size: int) -> Tensor:
    """The object of picture (3, H, W) alone on white, filling (3, size, size) as the set's pictures are filled."""
    left, top, right, bottom = found.box
    alone = torch.where(found.mask, x, torch.ones(()))[:, top:bottom, left:right]
    height, width = alone.shape[1:]
    side = round(max(height, width) * (1 + 2 * MARGIN))
    across, down = (side - width) // 2, (side - height) // 2
    square = F.pad(alone, (across, side - width - across, down, side - height - down), value=1.0)
    return F.interpolate(square[None], (size, size), mode="bilinear", antialias=True, align_corners=False)[0]
