"""Pictures side by side on one sheet, each under its label."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from PIL import Image, ImageDraw, ImageFont

TEXT = 13  # pixels
Place = tuple[int, ...]
"""Where a picture lies: the number of its label on each axis."""


def contact_sheet(
    images: Sequence[Image.Image], labels: Sequence[str] = (), columns: int | None = None, scale: int = 1, gap: int = 4
) -> Image.Image:
    """The pictures in reading order on white, `columns` a row (None: all in one row), `gap` pixels apart.

    `labels` stand above the pictures that they belong to; `scale` repeats every pixel so many times a side. Raises
    ValueError without pictures, and for more labels than pictures.
    """
    if not images or len(labels) > len(images):
        raise ValueError(f"{len(labels)} labels for {len(images)} pictures; give one or more pictures, each a label")
    columns = len(images) if columns is None else columns
    width, height = (scale * max(side) for side in zip(*(image.size for image in images), strict=True))
    line, rows = (TEXT * 3 // 2 if labels else 0), -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) - gap, rows * (line + height + gap) - gap), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT)
    for k, image in enumerate(images):
        left, top = k % columns * (width + gap), k // columns * (line + height + gap)
        if k < len(labels):
            pen.text((left, top), labels[k], "black", font)
        large = image.resize((scale * image.width, scale * image.height), Image.Resampling.NEAREST)
        sheet.paste(large.convert("RGB"), (left, top + line))
    return sheet


def labelled_sheet(labels: Sequence[Sequence[str]], pictures: Mapping[Place, Image.Image]) -> Image.Image:
    """Pictures in their places, on white; of one to three axes the first runs to the right, the second down, the third
    from block to block. `labels` are those of each axis; places without a picture are grey."""
    sizes = [image.size for image in pictures.values()] or [(64, 64)]
    width, height = (max(side) for side in zip(*sizes, strict=True))
    height_of_text = max(11, min(width, height) // 12)
    font, line, gap = ImageFont.load_default(height_of_text), 3 * height_of_text // 2, 4
    columns, rows, blocks = ([len(axis) for axis in labels] + [1, 1])[:3]
    side = _widest(labels[1], font) + 2 * gap if len(labels) > 1 else 0
    titled = line if len(labels) > 2 else 0
    block = titled + line + rows * (height + gap)
    sheet = Image.new("RGB", (side + columns * (width + gap), blocks * block), "white")
    pen = ImageDraw.Draw(sheet)
    for b in range(blocks):
        if titled:
            pen.text((gap, b * block), labels[2][b], "black", font)
        for x, text in enumerate(labels[0]):
            pen.text((side + x * (width + gap), b * block + titled), _fitting(text, font, width), "black", font)
        for y, text in enumerate(labels[1] if len(labels) > 1 else ()):
            middle = b * block + titled + line + y * (height + gap) + height // 2
            pen.text((gap, middle), text, "black", font, "lm")
    for place in product(*(range(len(axis)) for axis in labels)):
        x, y, b = (*place, 0, 0)[:3]
        corner = side + x * (width + gap), b * block + titled + line + y * (height + gap)
        sheet.paste(pictures.get(place) or Image.new("RGB", (width, height), "lightgrey"), corner)
    return sheet


def _widest(texts: Sequence[str], font: Any) -> int:
    return max((math.ceil(font.getlength(text)) for text in texts), default=0)


def _fitting(text: str, font: Any, width: int) -> str:
    """Returns the text, cut to as much of its beginning as fits."""
    while len(text) > 1 and font.getlength(text) > width:
        text = text[:-2] + "…"
    return text
