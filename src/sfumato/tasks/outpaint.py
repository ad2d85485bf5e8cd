"""Extends a picture beyond its edges."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from sfumato.diffusion.driver import Job, Step, with_steps
from sfumato.errors import OptionError, SfumatoError
from sfumato.images.files import check_size
from sfumato.images.resize import padded
from sfumato.images.tensors import to_images, to_pixels
from sfumato.pipeline.events import Events
from sfumato.pipeline.generate import Plan, generate
from sfumato.pipeline.model import Model
from sfumato.settings.checks import check_whole
from sfumato.settings.option import options_in, written
from sfumato.settings.settings import MAX_SEED, Settings
from sfumato.settings.task_options import InpaintOptions, Margins, OutpaintOptions
from sfumato.settings.tensors import NO_TENSORS
from sfumato.tasks import inpaint
from sfumato.tasks.inpaint import drawn_size
from sfumato.tasks.request import Request, refuse

OVERLAP = 1 / 8  # of what is drawn at once
STEP = OutpaintOptions.step
MASK_BLUR = str(options_in(InpaintOptions)["blur"].infotext)
SEED_STEP = 2654435769  # Knuth's multiplicative hashing: seeds of pieces that no neighbouring picture has


@dataclass(frozen=True)
class OutpaintMargins(Margins):
    """Pixels to add on each side. Raises SfumatoError for what is no such number, and if nothing is to be added."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not any(astuple(self)):
            raise OptionError("nothing is to be added; say how many pixels with `left`, `right`, `top` or `bottom`")

    def pieces(self, width: int, height: int) -> list[OutpaintMargins]:
        """Divides the margins into pieces of one side each, at most `width` or `height` wide, sides in turn."""
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


@dataclass(frozen=True, kw_only=True, eq=False)
class OutpaintRequest(Request):
    """An RGB picture drawn on beyond its edges; see `outpaint`."""

    image: Image.Image
    margins: OutpaintMargins
    overlap: int | None = None
    step: float = STEP

    def draw(self, model: Model, settings: Settings) -> Events:
        return outpaint(model, self.image, settings, self.margins, self.overlap, self.step)

    def record(self) -> dict[str, Any]:
        return {**vars(self.margins), "overlap": self.overlap, "step": self.step}


@dataclass(frozen=True)
class Piece:
    """Says what one piece adds to a picture: the new picture's size, and the box in it that the model sees."""

    size: tuple[int, int]
    box: tuple[int, int, int, int]

    @classmethod
    def of(cls, size: tuple[int, int], sides: OutpaintMargins, width: int, height: int) -> Piece:
        """Returns the piece whose box lies along the new edge and reaches `width` or `height` pixels inwards."""
        wide, high = size[0] + sides.left + sides.right, size[1] + sides.top + sides.bottom
        box = (
            max(0, wide - width) if sides.right else 0,
            max(0, high - height) if sides.bottom else 0,
            min(wide, width) if sides.left else wide,
            min(high, height) if sides.top else high,
        )
        return cls((wide, high), box)


def outpaint(
    model: Model,
    image: Image.Image,
    settings: Settings,
    margins: OutpaintMargins,
    overlap: int | None = None,
    step: float = STEP,
) -> Events:
    """Draw an RGB picture on beyond its edges, `settings.n` times; yields every step and every finished picture.

    Where the result is larger than the settings' size, it is done in pieces of at most the share `step` of that, one
    side after the other, and of what is there the model sees as much as makes up the size. Over
    `overlap` pixels, by default an eighth of that size, the old picture goes over into the new one: there it is drawn
    anew with a strength that falls to 0. What lies deeper inside comes back bit by bit. Raises SfumatoError at once for
    a step outside 0.05 to 0.9, an overlap that leaves no room, a result that is too large, and options that this task
    does not honour; else as `inpaint`.
    """
    refuse(settings, "a picture is drawn on beyond its edges", tensors=NO_TENSORS, hires_scale=None, tiling=None)
    if any(control.image is not None for control in settings.control):
        fix = "leave its picture out, and it sees what is there"
        raise SfumatoError(f"a picture is drawn on in pieces, for which a control has no picture of its own; {fix}")
    model = model.for_request(settings)
    OutpaintOptions(overlap, step)
    most = int((1 - step) * min(settings.width, settings.height))
    overlap = min(round(OVERLAP * min(settings.width, settings.height)), most) if overlap is None else overlap
    check_whole("overlap", overlap, 0, most)
    size = image.width + margins.left + margins.right, image.height + margins.top + margins.bottom
    check_size(*size, "the picture to be drawn")
    if size[0] <= settings.width and size[1] <= settings.height:
        pieces = [margins]
    else:
        pieces = margins.pieces(max(1, int(step * settings.width)), max(1, int(step * settings.height)))
    at_once = settings.width, settings.height

    def job(one: Settings) -> Job:
        own = replace(one, width=at_once[0], height=at_once[1])
        return _drawn(model, image, own, pieces, overlap, _Canvas.of(model, image, own, pieces[0], overlap))

    plan = Plan(
        job,
        lambda pixels: to_images(pixels)[0],
        at_once,
        lambda large: _with_inside(large, image, margins, overlap),
        {**written(Margins, margins), MASK_BLUR: overlap},
    )
    return generate(model, replace(settings, width=size[0], height=size[1]), plan)


def _drawn(
    model: Model, image: Image.Image, one: Settings, pieces: list[OutpaintMargins], overlap: int, first: _Canvas
) -> Job:
    """Draws the pieces one after the other; returns the large picture's pixels (1, 3, H, W)."""
    for number, piece in enumerate(pieces):
        seed = (one.seed + number * SEED_STEP) % MAX_SEED
        canvas = first if number == 0 else _Canvas.of(model, image, replace(one, seed=seed), piece, overlap)
        x = yield from with_steps(canvas.job(), partial(_counted, number, len(pieces)))
        image = canvas.finish(x)
    return to_pixels(image)


def _counted(number: int, pieces: int, step: Step) -> Step:
    return replace(step, index=number * step.total + step.index, total=pieces * step.total)


@dataclass(frozen=True, eq=False)
class _Canvas:
    """A picture with room for one piece more, and how that is drawn."""

    image: Image.Image
    piece: Piece
    settings: Settings
    plan: Plan

    @classmethod
    def of(cls, model: Model, image: Image.Image, one: Settings, margins: OutpaintMargins, overlap: int) -> _Canvas:
        piece = Piece.of(image.size, margins, one.width, one.height)
        canvas = padded(image, *_four(margins))
        mask = Image.new("L", canvas.size, 255)
        mask.paste(0, _inside(image, margins, overlap))
        part = canvas.crop(piece.box)
        how = InpaintOptions(soft=True, blur=overlap)
        width, height = drawn_size(how, model.spec, part)
        own = replace(one, width=width, height=height)
        return cls(canvas, piece, own, inpaint.plan(model, part, mask.crop(piece.box), own, how))

    def job(self) -> Job:
        return self.plan.job(self.settings)

    def finish(self, x: Tensor) -> Image.Image:
        """Returns the canvas with the piece that was drawn."""
        assert self.plan.restore_unmasked is not None
        large = self.image.copy()
        large.paste(self.plan.restore_unmasked(self.plan.finish(x)), self.piece.box)
        return large


def _four(margins: OutpaintMargins) -> tuple[int, int, int, int]:
    return margins.left, margins.top, margins.right, margins.bottom


def _inside(image: Image.Image, margins: OutpaintMargins, overlap: int) -> tuple[int, int, int, int]:
    """Returns the box, in the larger picture, of the part that does not change: all but the overlap."""
    left, top, right, bottom = (overlap if added else 0 for added in _four(margins))
    x, y = margins.left, margins.top
    return x + left, y + top, max(x + left, x + image.width - right), max(y + top, y + image.height - bottom)


def _with_inside(large: Image.Image, image: Image.Image, margins: OutpaintMargins, overlap: int) -> Image.Image:
    """Puts the part that does not change back into the large picture."""
    left, top, right, bottom = _inside(image, margins, overlap)
    inner = image.crop((left - margins.left, top - margins.top, right - margins.left, bottom - margins.top))
    levels = np.array(large)
    levels[top:bottom, left:right] = np.asarray(inner)
    return Image.fromarray(levels)
