"""The script "X/Y/Z plot": a picture for every combination of the values of up to three fields."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import Any

from sfumato.errors import SfumatoError, unknown
from sfumato.server.dialects.a1111.bodies import DrawBody, Img2ImgBody
from sfumato.server.dialects.a1111.scripts.base import Argument, Plan, Requests, Script, argument
from sfumato.server.dialects.a1111.scripts.sheet import sheets

MAX_CELLS = 1000
MAX_WORDS = 6  # that are put in every order
Changes = Mapping[str, Any]
Change = Callable[[DrawBody, Any, Sequence[Any]], Changes]
_NUMBER = r"\s*([+-]?\d+(?:\.\d*)?)\s*"
_STEPS = re.compile(rf"{_NUMBER}-{_NUMBER}(?:\(\s*([+-]\d+(?:\.\d*)?)\s*\))?\s*")
_COUNT = re.compile(rf"{_NUMBER}-{_NUMBER}\[\s*(\d+)\s*\]\s*")


def _field(name: str) -> Change:
    return lambda body, value, values: {name: value}


def _override(name: str) -> Change:
    return lambda body, value, values: {"override_settings": {**body.overrides, name: value}}


def _words(body: DrawBody, value: Any, values: Sequence[Any]) -> Changes:
    old, texts = str(values[0]), {"prompt": body.prompt or "", "negative_prompt": body.negative_prompt or ""}
    if not any(old in text for text in texts.values()):
        raise SfumatoError(f"Prompt S/R: {old!r} is in no prompt; begin with words that are")
    return {name: text.replace(old, str(value)) for name, text in texts.items()}


def _order(body: DrawBody, value: Any, values: Sequence[Any]) -> Changes:
    text = body.prompt or ""
    places = sorted((text.find(word), word) for word in value)
    if places[0][0] < 0:
        raise SfumatoError(f"Prompt order: {places[0][1]!r} is not in the prompt; give words that are")
    found, end = "", 0
    for (place, word), new in zip(places, value, strict=True):
        found, end = found + text[end:place] + new, place + len(word)
    return {"prompt": found + text[end:]}


def _size(body: DrawBody, value: Any, values: Sequence[Any]) -> Changes:
    width, _, height = str(value).partition("x")
    if not width.strip().isdigit() or not height.strip().isdigit():
        raise SfumatoError(f"Size: {value!r} is no size; write it as 512x768")
    return {"width": int(width), "height": int(height)}


@dataclass(frozen=True)
class AxisField:
    """What an axis may be: its label, how its values are read, and what a value changes; None is not here."""

    label: str
    kind: Callable[[Any], Any] = str
    change: Change | None = None
    only: bool | None = None  # for img2img alone (True), for txt2img alone (False)


def _styles(body: DrawBody, value: Any, values: Sequence[Any]) -> Changes:
    return {"styles": [*(body.styles or []), *str(value).split(",")]}


# In the order of the web UI, by which clients number them.
FIELDS = (
    AxisField("Nothing", str, lambda body, value, values: {}),
    AxisField("Seed", int, _field("seed")),
    AxisField("Var. seed", int, _field("subseed")),
    AxisField("Var. strength", float, _field("subseed_strength")),
    AxisField("Steps", int, _field("steps")),
    AxisField("Hires steps", int, _field("hr_second_pass_steps"), only=False),
    AxisField("CFG Scale", float, _field("cfg_scale")),
    AxisField("Image CFG Scale", float, only=True),
    AxisField("Prompt S/R", str, _words),
    AxisField("Prompt order", str, _order),
    AxisField("Sampler", str, _field("sampler_name"), only=False),
    AxisField("Hires sampler", str, _field("hr_sampler_name"), only=False),
    AxisField("Sampler", str, _field("sampler_name"), only=True),
    AxisField("Checkpoint name", str, _override("sd_model_checkpoint")),
    AxisField("Negative Guidance minimum sigma", float),
    AxisField("Sigma Churn", float, _field("s_churn")),
    AxisField("Sigma min", float, _field("s_tmin")),
    AxisField("Sigma max", float, _field("s_tmax")),
    AxisField("Sigma noise", float, _field("s_noise")),
    AxisField("Schedule type", str, _field("scheduler")),
    AxisField("Schedule min sigma", float),
    AxisField("Schedule max sigma", float),
    AxisField("Schedule rho", float),
    AxisField("Skip Early CFG", float),
    AxisField("Beta schedule alpha", float),
    AxisField("Beta schedule beta", float),
    AxisField("Eta", float, _field("eta")),
    AxisField("Clip skip", int, _override("CLIP_stop_at_last_layers")),
    AxisField("Denoising", float, _field("denoising_strength")),
    AxisField("Initial noise multiplier", float),
    AxisField("Extra noise", float),
    AxisField("Hires upscaler", str, _field("hr_upscaler"), only=False),
    AxisField("Cond. Image Mask Weight", float, only=True),
    AxisField("VAE", str, _override("sd_vae")),
    AxisField("Styles", str, _styles),
    AxisField("UniPC Order", int),
    AxisField("Face restore"),
    AxisField("Token merging ratio", float, _override("token_merging_ratio")),
    AxisField("Token merging ratio high-res", float),
    AxisField("Always discard next-to-last sigma"),
    AxisField("SGM noise multiplier"),
    AxisField("Refiner checkpoint", str, _field("refiner_checkpoint")),
    AxisField("Refiner switch at", float, _field("refiner_switch_at")),
    AxisField("RNG source", str, _override("randn_source")),
    AxisField("FP8 mode"),
    AxisField("Size", str, _size),
)


def fields_of(img2img: bool) -> list[AxisField]:
    """The axes that clients of a kind number."""
    return [one for one in FIELDS if one.only in (None, img2img)]


class Plot(Script):
    """Arguments: for each axis its field (place or label), values as text, values as a list; then what is shown."""

    name = "x/y/z plot"

    def arguments(self, img2img: bool) -> list[Argument]:
        labels = tuple(one.label for one in fields_of(img2img))
        found = []
        for axis, usual in zip("XYZ", ("Seed", "Nothing", "Nothing"), strict=True):
            found += [Argument(f"{axis} type", usual, choices=labels), Argument(f"{axis} values", "")]
            found += [Argument(f"{axis} values", [])]
        shown = ("Draw legend", True), ("Include Sub Images", False), ("Include Sub Grids", False)
        seeds = [(f"Vary seeds for {axis}", False) for axis in "XYZ"]
        found += [Argument(*one) for one in (*shown, ("Keep -1 for seeds", False), *seeds)]
        margin = Argument("Grid margins (px)", 0, 0, 500, 2)
        return [*found, margin, Argument("Use text inputs instead of dropdowns", False)]

    def plan(self, body: DrawBody, requests: Requests) -> Plan:
        values = body.script_args or []
        known = fields_of(isinstance(body, Img2ImgBody))
        axes = [_axis(known, *(argument(values, 3 * k + i, None) for i in range(3))) for k in range(3)]
        axes = [(one, found) for one, found in axes if one.label != "Nothing"]
        if not axes:
            raise SfumatoError("the plot has no axis; choose a field and values for X")
        if math.prod(len(found) for _, found in axes) > MAX_CELLS:
            raise SfumatoError(f"the plot has more than {MAX_CELLS} pictures; give fewer values")
        cells = []
        for chosen in product(*(found for _, found in reversed(axes))):
            cell = body.changed(batch_size=1, n_iter=1, script_name=None)
            for (one, found), value in zip(axes, reversed(chosen), strict=True):
                assert one.change is not None
                cell = cell.changed(**one.change(cell, value, found))
            cells += requests(cell)[:1]
        labels = [[_label(one, value) for value in found] for one, found in axes]
        legend, lone, parts = (bool(argument(values, place, place == 9)) for place in (9, 10, 11))
        return Plan(cells, sheets(labels, parts, lone, legend), first=1 if lone else 0)


def _axis(known: Sequence[AxisField], which: Any, text: Any, listed: Any) -> tuple[AxisField, list[Any]]:
    """The field of an axis, and its values. Raises SfumatoError for a field or values that are none."""
    if isinstance(which, int) and 0 <= which < len(known):
        one = known[which]
    else:
        named = {each.label.lower(): each for each in known}
        if which is not None and str(which).lower() not in named:
            raise unknown("axis", str(which), [each.label for each in known])
        one = named[str(which).lower()] if which is not None else known[0]
    if one.change is None:
        raise SfumatoError(f"the axis {one.label!r} is not here; choose another one")
    if one.label == "Nothing":
        return one, []
    parts = [part for part in _texts(one, text, listed) if part]
    if one.kind in (int, float):
        return one, [number for part in parts for number in _numbers(one, part)] or _none(one)
    if one.label == "Prompt order":
        if len(parts) > MAX_WORDS:
            raise SfumatoError(f"Prompt order: {len(parts)} words have too many orders; give at most {MAX_WORDS}")
        return one, list(permutations(parts)) if parts else _none(one)
    return one, parts or _none(one)


def _none(one: AxisField) -> list[Any]:
    raise SfumatoError(f"the axis {one.label!r} has no values; give some, such as 1,2,3")


def _texts(one: AxisField, text: Any, listed: Any) -> list[str]:
    """The values of an axis as they are written: in one text with commas, or in a list."""
    try:
        found = next(csv.reader([str(text)]), []) if text else listed or []
    except csv.Error as error:
        raise SfumatoError(f"the values of the axis {one.label!r} cannot be read: {error}") from None
    if not isinstance(found, list):
        raise SfumatoError(f"the values of the axis {one.label!r} are no list; send a list of texts")
    return [str(part).strip() for part in found]


def _numbers(one: AxisField, part: Any) -> list[Any]:
    """The numbers that "3", "1-5", "1-9 (+2)" and "1-10 [4]" mean."""
    try:
        if (match := _COUNT.fullmatch(str(part))) is not None:
            low, high, count = float(match[1]), float(match[2]), min(int(match[3]), MAX_CELLS)
            return [one.kind(low + (high - low) * k / max(1, count - 1)) for k in range(count)]
        if (match := _STEPS.fullmatch(str(part))) is not None:
            low, high, step = float(match[1]), float(match[2]), float(match[3] or 1)
            count = math.floor((high - low) / step + 1e-9) + 1 if step else 0
            return [one.kind(low + k * step) for k in range(min(max(0, count), MAX_CELLS + 1))]
        return [one.kind(part)]
    except (ValueError, OverflowError):
        raise SfumatoError(f"{part!r} is no number for the axis {one.label!r}; give numbers, such as 1,2,3") from None


def _label(one: AxisField, value: Any) -> str:
    if one.label in ("Prompt S/R", "Sampler"):
        return str(value)
    if isinstance(value, tuple):
        return ", ".join(value)
    return f"{one.label}: {value:g}" if isinstance(value, float) else f"{one.label}: {value}"
