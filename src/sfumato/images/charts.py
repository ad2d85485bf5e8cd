"""Line charts, for lessons and benches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

Point = tuple[float, float]
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#a0522d", "#444444", "#d62728")
TEXT = 15  # pixels
LEFT, RIGHT, TOP, BOTTOM = 78, 150, 28, 56


@dataclass(frozen=True)
class Axis:
    """What an axis says, whether it is logarithmic, where its ticks are (None: at round numbers), and their text."""

    label: str = ""
    log: bool = False
    ticks: Sequence[float] | None = None
    text: Callable[[float], str] = "{:g}".format

    def scale(self, values: Iterable[float]) -> Callable[[float], float]:
        """The map of values to shares of the axis, 0 to 1 over `values` and the ticks that were given."""
        ends = [self._on(value) for value in (*values, *(self.ticks or ()))]
        low, high = min(ends), max(ends)
        return lambda value: (self._on(value) - low) / ((high - low) or 1)

    def marks(self, values: Sequence[float]) -> list[float]:
        """The ticks, those that were given or round numbers between the values."""
        if self.ticks is not None:
            return list(self.ticks)
        low, high = min(values), max(values)
        if self.log:
            powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
            every = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
            inside = [mark for mark in every if low <= mark <= high]
            return inside if len(inside) <= 8 else [mark for mark in inside if math.log10(mark).is_integer()]
        step = _round_step((high - low) / 5)
        return [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]

    def _on(self, value: float) -> float:
        return math.log10(value) if self.log else value


def _round_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step or 1))
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power >= step)


LINEAR = Axis()


def line_chart(
    curves: Mapping[str, Sequence[Point]],
    x: Axis = LINEAR,
    y: Axis = LINEAR,
    *,
    dots: bool = False,
    size: tuple[int, int] = (720, 420),
) -> Image.Image:
    """A line for each of the `curves`, (x, y) by name, each named at its end; with `dots` at its points as well.

    A curve whose name begins with a blank is not named, and has the colour of the named one before it.
    Raises ValueError without points, and for values up to 0 on a logarithmic axis.
    """
    xs, ys = ([point[axis] for points in curves.values() for point in points] for axis in (0, 1))
    if not xs or (x.log and min(xs) <= 0) or (y.log and min(ys) <= 0):
        raise ValueError("a chart needs points, and a logarithmic axis only numbers above 0")
    (width, height), font = size, ImageFont.load_default(TEXT)
    image = Image.new("RGB", size, "white")
    pen, across, up = ImageDraw.Draw(image), x.scale(xs), y.scale(ys)

    def place(point: Point) -> Point:
        return (
            LEFT + across(point[0]) * (width - LEFT - RIGHT),
            height - BOTTOM - up(point[1]) * (height - TOP - BOTTOM),
        )

    for mark in y.marks(ys):
        _, at = place((xs[0], mark))
        pen.line((LEFT, at, width - RIGHT, at), "#dddddd")
        pen.text((LEFT - 8, at), y.text(mark), "black", font, "rm")
    for mark in x.marks(xs):
        at, _ = place((mark, ys[0]))
        pen.line((at, TOP, at, height - BOTTOM), "#dddddd")
        pen.text((at, height - BOTTOM + 8), x.text(mark), "black", font, "mt")
    pen.text(((LEFT + width - RIGHT) / 2, height - 10), x.label, "black", font, "mb")
    pen.text((LEFT, 6), y.label, "black", font, "lt")
    placed = {name: [place(point) for point in points] for name, points in curves.items()}
    _draw_curves(pen, placed, dots)
    _name_curves(pen, placed, font, width - RIGHT + 14)
    return image


def _colours(names: Iterable[str]) -> dict[str, str]:
    found, number = {}, -1
    for name in names:
        number += not name.startswith(" ")
        found[name] = COLOURS[max(number, 0) % len(COLOURS)]
    return found


def _draw_curves(pen: ImageDraw.ImageDraw, placed: Mapping[str, Sequence[Point]], dots: bool) -> None:
    for name, colour in _colours(placed).items():
        pen.line(placed[name], colour, 3, "curve")
        for left, top in placed[name] if dots else ():
            pen.ellipse((left - 4, top - 4, left + 4, top + 4), colour)


def _name_curves(
    pen: ImageDraw.ImageDraw, placed: Mapping[str, Sequence[Point]], font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
    left: float,
) -> None:  # fmt: skip
    """Each name beside its curve's right end, moved up where the one below would touch it."""
    colours, lowest = _colours(placed), math.inf
    ends = {name: max(points) for name, points in placed.items() if not name.startswith(" ")}
    for name in sorted(ends, key=lambda name: -ends[name][1]):
        lowest = min(lowest - TEXT - 4, ends[name][1])
        pen.line((*ends[name], left, lowest), colours[name])
        pen.text((left + 4, lowest), name, colours[name], font, "lm")
