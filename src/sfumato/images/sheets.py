"""Pictures side by side on one sheet, each under its label."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

TEXT = 13  # pixels


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
