"""Hints that are made of a picture alone, for ControlNets and T2I-Adapters: each turns an RGB picture into one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from PIL import Image, ImageOps

from sfumato.images.control.canny import canny
from sfumato.images.control.colours import colour_grid, shuffled, softened
from sfumato.images.control.lines import gradient, line_art, scribble

Hint = Callable[[Image.Image], Image.Image]


def unchanged(image: Image.Image) -> Image.Image:
    """Returns the picture itself."""
    return image


PICTURE_HINTS: Mapping[str, Hint] = {
    "none": unchanged,
    "invert": ImageOps.invert,
    "canny": canny,
    "gradient": gradient,
    "scribble": scribble,
    "lineart": line_art,
    "tile": softened,
    "shuffle": shuffled,
    "colour": colour_grid,
    "segmentation": unchanged,
}
