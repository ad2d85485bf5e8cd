"""Sheets of pictures, to judge a run by."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor


def sheet(rows: Sequence[Tensor], gap: int = 2) -> Image.Image:
    """Returns one picture of rows of pictures (N, 3, H, W) in [-1, 1], all of one size, on white."""
    pictures = [((row.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu() for row in rows]
    height, width = pictures[0].shape[2:]
    columns = max(len(row) for row in pictures)
    canvas = torch.full((len(rows) * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, dtype=torch.uint8)
    for y, row in enumerate(pictures):
        for x, picture in enumerate(row):
            top, left = y * (height + gap), x * (width + gap)
            canvas[top : top + height, left : left + width] = picture.permute(1, 2, 0)
    return Image.fromarray(canvas.numpy())
