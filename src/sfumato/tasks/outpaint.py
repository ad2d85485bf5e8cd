"""A picture drawn on beyond its edges."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import astuple, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from sfumato.errors import SfumatoError
from sfumato.images.files import check_size
from sfumato.pipeline.generate import describe, marked
from sfumato.pipeline.latents import Picture, Progress
from sfumato.settings.checks import check_number, check_whole
from sfumato.settings.settings import MAX_SEED, Settings
from sfumato.spec import MAX_SIDE
from sfumato.tasks.img2img import padded
from sfumato.tasks.inpaint import InpaintOptions, inpaint

if TYPE_CHECKING:
    from sfumato.api import StableDiffusion

OVERLAP = 1 / 8  # of what is drawn at once
STEP = 0.5  # likewise: as much of the old picture is then seen as is added
SEED_STEP = 2654435769  # Knuth's multiplicative hashing: seeds of pieces that no neighbouring picture has


@dataclass(frozen=True)
class OutpaintMargins:
    """Pixels to add on each side. Raises SfumatoError for what is no such number, and if nothing is to be added."""

    left: int = 0
    right: int = 0
    top: int = 0
    bottom: int = 0

    def __post_init__(self) -> None:
        for name, pixels in vars(self).items():
            check_whole(name, pixels, 0, MAX_SIDE)
        if not any(astuple(self)):
            raise SfumatoError("nothing is to be added; say how many pixels with left, right, top or bottom")

    def pieces(self, width: int, height: int) -> list[OutpaintMargins]:
        """The same in pieces of one side each, as equal as they can be and at most so wide and high, sides in turn."""
        split = [
            _split(pixels, most) for pixels, most in zip(astuple(self), (width, width, height, height), strict=True)
        ]
        return [
            OutpaintMargins(*(pixels[turn] if side == here else 0 for here in range(4)))
            for turn in range(max(map(len, split)))
            for side, pixels in enumerate(split)
            if turn < len(pixels)
        ]


def _split(pixels: int, most: int) -> list[int]:
    count = math.ceil(pixels / most)
    return [pixels * (k + 1) // count - pixels * k // count for k in range(count)]


@dataclass(frozen=True)
class Piece:
    """What one piece adds to a picture of a size: the new picture's size, and the box in it that is looked at."""

    size: tuple[int, int]
    box: tuple[int, int, int, int]

    @classmethod
    def of(cls, size: tuple[int, int], sides: OutpaintMargins, width: int, height: int) -> Piece:
        """The box lies at the new edge, of the model's `width` or `height` away from it, and all along it."""
        wide, high = size[0] + sides.left + sides.right, size[1] + sides.top + sides.bottom
        box = (
            max(0, wide - width) if sides.right else 0,
            max(0, high - height) if sides.bottom else 0,
            min(wide, width) if sides.left else wide,
            min(high, height) if sides.top else high,
        )
        return cls((wide, high), box)


def outpaint(
    model: StableDiffusion,
    image: Image.Image,
    settings: Settings,
    sides: OutpaintMargins,
    overlap: int | None = None,
    step: float = STEP,
) -> Generator[Progress | Picture, None, None]:
    """Draw an RGB picture on beyond its edges, `settings.n` times; yields every step and every finished picture.

    Where the result is larger than the settings' size, it is done in pieces of at most the share `step` of that, one
    side after the other, and of what is there the model sees as much as makes up the size. Over
    `overlap` pixels, by default an eighth of that size, the old picture goes over into the new one: there it is drawn
    anew with a strength that falls to 0. What lies deeper inside comes back bit by bit. Raises SfumatoError at once for
    a step outside 0.05 to 0.9, an overlap that leaves no room, and a result that is too large; else as `inpaint`.
    """
    check_number("step", step, 0.05, 0.9, STEP)
    most = int((1 - step) * min(settings.width, settings.height))
    overlap = min(round(OVERLAP * min(settings.width, settings.height)), most) if overlap is None else overlap
    check_whole("overlap", overlap, 0, most)
    size = image.width + sides.left + sides.right, image.height + sides.top + sides.bottom
    check_size(*size, "the picture to be drawn")
    return _outpaint(model, image, settings, sides, overlap, step)


def _outpaint(
    model: StableDiffusion, image: Image.Image, settings: Settings, sides: OutpaintMargins, overlap: int, step: float
) -> Generator[Progress | Picture, None, None]:
    size = image.width + sides.left + sides.right, image.height + sides.top + sides.bottom
    if size[0] <= settings.width and size[1] <= settings.height:
        pieces = [sides]
    else:
        pieces = sides.pieces(max(1, int(step * settings.width)), max(1, int(step * settings.height)))
    described = replace(settings, width=size[0], height=size[1])
    facts = {f"Outpaint {name}": pixels or None for name, pixels in vars(sides).items()} | {"Mask blur": overlap}
    for index in range(settings.n):
        seed, other = settings.seeds(index)
        drawn = image
        for number, piece in enumerate(pieces):
            own = replace(settings, seed=(seed + number * SEED_STEP) % MAX_SEED, variation_seed=other)
            for event in _piece(model, drawn, own, piece, overlap):
                if isinstance(event, Progress):
                    done = number * event.steps + event.step
                    yield replace(event, picture=index, step=done, steps=len(pieces) * event.steps)
                else:
                    drawn = event.image
        if settings.watermark:
            drawn = _with_inside(marked(drawn), image, sides, overlap)
        yield Picture(index, drawn, seed, describe(model, described, seed, facts))


def _piece(
    model: StableDiffusion, image: Image.Image, settings: Settings, sides: OutpaintMargins, overlap: int
) -> Generator[Progress | Picture, None, None]:
    """The picture with one piece more."""
    piece = Piece.of(image.size, sides, settings.width, settings.height)
    canvas = padded(image, *_four(sides))
    mask = Image.new("L", canvas.size, 255)
    mask.paste(0, _inside(image, sides, overlap))
    part = canvas.crop(piece.box)
    how = InpaintOptions(soft=True, blur=overlap)
    width, height = how.size(model.spec, part)
    own = replace(settings, width=width, height=height, n=1, watermark=False)
    for event in inpaint(model, part, mask.crop(piece.box), own, how):
        if isinstance(event, Picture):
            canvas.paste(event.image, piece.box)
            event = replace(event, image=canvas)
        yield event


def _four(sides: OutpaintMargins) -> tuple[int, int, int, int]:
    return sides.left, sides.top, sides.right, sides.bottom


def _inside(image: Image.Image, sides: OutpaintMargins, overlap: int) -> tuple[int, int, int, int]:
    """The box, in the larger picture, of what of a picture stays: all but the overlap with what is added."""
    left, top, right, bottom = (overlap if added else 0 for added in _four(sides))
    x, y = sides.left, sides.top
    return x + left, y + top, max(x + left, x + image.width - right), max(y + top, y + image.height - bottom)


def _with_inside(large: Image.Image, image: Image.Image, sides: OutpaintMargins, overlap: int) -> Image.Image:
    """The large picture with what stays of the other put back."""
    left, top, right, bottom = _inside(image, sides, overlap)
    inner = image.crop((left - sides.left, top - sides.top, right - sides.left, bottom - sides.top))
    levels = np.array(large)
    levels[top:bottom, left:right] = np.asarray(inner)
    return Image.fromarray(levels)
