"""Draws one picture under many settings, as a labelled sheet and a table."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from itertools import product
from typing import Any, cast

from PIL import Image

from sfumato.errors import SfumatoError
from sfumato.images.resize import natural_size
from sfumato.images.sheets import labelled_sheet
from sfumato.pipeline.events import Picture
from sfumato.pipeline.model import Model
from sfumato.settings.adapters import NO_ADAPTER, Loras
from sfumato.settings.kinds import Kind, Number, Text, Whole
from sfumato.settings.option import options_in
from sfumato.settings.settings import Options, Settings, sized
from sfumato.settings.steering import Several
from sfumato.settings.table import OPTIONS
from sfumato.tasks.img2img import STRENGTH, check_strength, img2img
from sfumato.tasks.txt2img import txt2img

MAX_CELLS = 1000
_WORDS, _STRENGTH = "words", "strength"
_PARTS: dict[str, Kind] = {  # of controls and image prompts, such as control.weight
    f"{name}.{part}": each.kind
    for name, one in OPTIONS.items()
    if isinstance(one.kind, Several)
    for part, each in options_in(one.kind.one).items()
}
_KINDS: dict[str, Kind] = {  # of the options that have one plain value
    **{name: one.kind for name, one in OPTIONS.items() if not one.kind.repeated and name not in ("n", "sigmas")},
    **{name: one.kind for name, one in OPTIONS.items() if isinstance(one.kind, Loras)},  # one adapter a value, or none
    **_PARTS,
    _WORDS: Text(),
    _STRENGTH: Number(0, 1, STRENGTH),
}
_NUMBER = r"\s*(-?\d+(?:\.\d+)?)\s*"
_RANGE = re.compile(rf"{_NUMBER}\.\.{_NUMBER}(?::{_NUMBER})?")


@dataclass(frozen=True)
class Axis:
    """An option and the values that it takes. "words" replaces its first value in the prompts by each."""

    name: str
    values: tuple[Any, ...]

    @classmethod
    def parse(cls, text: str) -> Axis:
        """'steps=10,20,40', 'cfg=1..9:2' (both ends, in steps of 2), 'words=cat,dog'.

        Raises SfumatoError for an unknown option or values that it cannot have.
        """
        name, equals, values = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or name not in _KINDS:
            near = [] if name in _KINDS else get_close_matches(name, _KINDS, 1)
            guess = f"did you mean {near[0]}? " if near else ""
            listed = f"give one such as steps=10,20,40, of {', '.join(_KINDS)}"
            raise SfumatoError(f"{text!r} is no axis; {guess}{listed}")
        kind = _KINDS[name]
        match = _RANGE.fullmatch(values)
        parts = _steps(text, *match.groups()) if match and isinstance(kind, Whole | Number) else _listed(values)
        found = tuple(_value(text, kind, part) for part in parts)
        if not found:
            raise SfumatoError(f"the axis {text!r} has no values; give some, such as {name}=1,2,3")
        return cls(name, found)

    def label(self, k: int) -> str:
        value = self.values[k]
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        if isinstance(value, tuple):
            shown = ", ".join(value) or NO_ADAPTER
        return shown if self.name == _WORDS else f"{self.name} {shown}"


def _steps(text: str, first: str, last: str, step: str | None) -> list[str]:
    low, high, by = float(first), float(last), float(step or 1)
    if by == 0 or (high - low) / by < 0:
        raise SfumatoError(f"the range in {text!r} never ends; write it as 1..9:2")
    count = math.floor((high - low) / by + 1e-9) + 1
    if count > MAX_CELLS:
        raise SfumatoError(f"the range in {text!r} has {count} values; {MAX_CELLS} are possible")
    return [f"{low + k * by:.10g}" for k in range(count)]


def _listed(values: str) -> list[str]:
    return [part.strip() for part in next(csv.reader([values], skipinitialspace=True), []) if part.strip()]


def _value(text: str, kind: Kind, part: str) -> Any:
    try:
        return kind.read(part)
    except ValueError as error:
        raise SfumatoError(str(error).replace("{name}", f"a value in {text!r}", 1)) from None


@dataclass(frozen=True, eq=False)
class Cell:
    """One picture of a grid: its place on each axis, and the settings that drew it."""

    place: tuple[int, ...]
    settings: Settings
    strength: float
    picture: Picture | None = None


@dataclass(frozen=True, eq=False)
class Grid:
    """What is to be drawn. Of up to three axes the first runs to the right, the second down, the third from block to
    block."""

    axes: tuple[Axis, ...]
    cells: tuple[Cell, ...]

    @classmethod
    def of(
        cls,
        model: Model,
        axes: Sequence[Axis],
        prompt: str,
        negative: str = "",
        image: Image.Image | None = None,
        options: Options | None = None,
    ) -> Grid:
        """All cells with their settings; with an `image` they are drawn on top of it. One seed serves all.

        Raises SfumatoError for axes that repeat, words that are in no prompt, and settings that cannot be honoured.
        """
        names = [axis.name for axis in axes]
        if not 1 <= len(axes) <= 3 or len(set(names)) < len(names):
            raise SfumatoError(f"a grid has one to three axes of different options, not {names}")
        if math.prod(len(axis.values) for axis in axes) > MAX_CELLS:
            raise SfumatoError(f"the grid has more than {MAX_CELLS} cells; give fewer values")
        if image is None and _STRENGTH in names:
            raise SfumatoError("strength says how much of a picture is drawn anew; give a picture, or another axis")
        first = dict(options or {})
        first["seed"] = Settings.of(model.spec, prompt, negative, **cast(Options, first)).seed
        cells = []
        for place in product(*(range(len(axis.values)) for axis in axes)):
            chosen = {axis.name: axis.values[k] for axis, k in zip(axes, place, strict=True)}
            words, strength = chosen.pop(_WORDS, None), chosen.pop(_STRENGTH, STRENGTH)
            check_strength(strength)
            texts = [prompt, negative]
            if words is not None:
                old = axes[names.index(_WORDS)].values[0]
                if old not in prompt + negative:
                    raise SfumatoError(f"{old!r} is in no prompt, so nothing would change; begin with words that are")
                texts = [text.replace(old, words) for text in texts]
            mine = cast(Options, {**_with_parts(first, chosen), "n": 1})
            if image is not None:
                mine = sized(mine, *natural_size(image, model.spec))
            cells.append(Cell(place, Settings.of(model.spec, *texts, **mine), strength))
        return cls(tuple(axes), tuple(cells))

    def draw(self, model: Model, image: Image.Image | None = None) -> Generator[Cell, None, None]:
        """Yields every cell with its picture, row by row."""
        for cell in sorted(self.cells, key=lambda cell: cell.place[::-1]):
            events = (
                txt2img(model, cell.settings)
                if image is None
                else img2img(model, image, cell.settings, strength=cell.strength)
            )
            with closing(events):
                (picture,) = (event for event in events if isinstance(event, Picture))
            yield Cell(cell.place, cell.settings, cell.strength, picture)

    def table(self, cells: Sequence[Cell]) -> dict[str, Any]:
        """Returns what was drawn, for JSON."""
        return {
            "axes": [asdict(axis) for axis in self.axes],
            "cells": [
                {
                    **{axis.name: axis.values[k] for axis, k in zip(self.axes, cell.place, strict=True)},
                    "seed": cell.picture.seed,
                    "infotext": cell.picture.infotext,
                }
                for cell in cells
                if cell.picture is not None
            ],
        }

    def sheet(self, cells: Sequence[Cell]) -> Image.Image:
        """Returns the sheet: pictures in their places, with labels; places that are not drawn stay grey."""
        drawn = {cell.place: cell.picture.image for cell in cells if cell.picture is not None}
        return labelled_sheet([self._labels(k) for k in range(len(self.axes))], drawn)

    def _labels(self, k: int) -> list[str]:
        return [self.axes[k].label(i) for i in range(len(self.axes[k].values))]


def _with_parts(options: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The options with those that a cell has; a part of controls or image prompts is changed in all of them.

    Raises SfumatoError for a part of what is not there.
    """
    mine = {**options, **{name: value for name, value in chosen.items() if name not in _PARTS}}
    for name in chosen.keys() & _PARTS.keys():
        several, _, part = name.partition(".")
        given = OPTIONS[several].checked(mine.get(several) or ())
        if not given:
            raise SfumatoError(f"the axis {name} changes nothing without `{several}`; give that as well")
        mine[several] = tuple(replace(one, **{part: chosen[name]}) for one in given)
    return mine
