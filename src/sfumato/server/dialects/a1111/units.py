"""The units of the ControlNet extension: from what clients send to networks that steer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from fastapi import HTTPException
from PIL import Image

from sfumato.errors import SfumatoError, unknown
from sfumato.images.control.canny import HIGH, LOW, canny
from sfumato.images.files import on_white
from sfumato.server.dialects.a1111.bodies import DrawBody, Img2ImgBody
from sfumato.server.dialects.a1111.common import Asked, drawable, refuse
from sfumato.server.dialects.a1111.pictures import mask_of, picture_of
from sfumato.server.jobs.job import JobRequest
from sfumato.settings.checks import is_number
from sfumato.settings.control import HINTS, MODES, MODULES

MODULE_NAMES = {
    "none": "none", "canny": "canny", "invert (from white bg & black line)": "invert", "lineart_standard": "lineart",
    "scribble_hed": "scribble", "softedge_hed": "gradient", "tile_resample": "tile", "shuffle": "shuffle",
    "t2ia_color_grid": "colour", "segmentation": "segmentation", "depth_midas": "depth", "normal_midas": "normal",
    "inpaint_only": "inpaint",
}  # fmt: skip
"""What the extension calls the hints that are here; its other names of a kind are understood as well."""
RESIZE = ("stretch", "crop", "pad")
RESIZE_NAMES = {
    "just resize": "stretch", "crop and resize": "crop", "resize and fill": "pad",
    "scale to fit (inner fit)": "crop", "inner fit (scale to fit)": "crop",
    "envelope (outer fit)": "pad", "outer fit (shrink to fit)": "pad",
}  # fmt: skip
MODE_NAMES = {shown.lower(): name for name, shown in MODES.items()}
MAX_NUMBER = 1e6
HALF = 127  # of a mask; what is brighter is drawn
FAINT = 5  # levels of a mask's black and white that count as pure
ABSENT = ("", "none", "null")


def steering(
    units: Sequence[Any], body: DrawBody, asked: Asked
) -> tuple[dict[str, list[dict[str, Any]]], list[JobRequest]]:
    """The options `control` and `ip_adapter` that units mean, and requests for what the networks are shown.

    Raises SfumatoError, and HTTPException 422.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    shown = []
    for unit in units:
        if not isinstance(unit, Mapping):
            raise refuse("ControlNet", "a unit is a JSON object; send its fields by their names")
        if unit.get("enabled", True) not in (False, None):
            option, made = _steering(unit, body, asked)
            found.setdefault(option, []).append(made)
            if (
                option == "control"
                and "image" in made
                and made["hint"] != "inpaint"
                and unit.get("save_detected_map", True) is not False
            ):
                shown.append(_shown(made, body, asked))
    return found, shown


def _shown(control: Mapping[str, Any], body: DrawBody, asked: Asked) -> JobRequest:
    """The request for the hint of a control, which the extension sends after the pictures."""
    defaults = asked.spec.defaults
    size = [drawable(body.width or defaults.width, asked.step), drawable(body.height or defaults.height, asked.step)]
    how = {"hint": control["hint"], "size": size, "resize": control["resize"]}
    return JobRequest(kind="hint", model=asked.model, how=how, pictures={"image": control["image"]})


def hint_of(module: str) -> str:
    """The hint that is nearest to the extension's name of a preprocessor. Raises HTTPException 422 for other names."""
    name = module.strip().lower()
    if name in ABSENT:
        return "none"
    if name in HINTS:
        return name
    found = next((hint for mark, hint in MODULES if mark in name), None)
    if found is None:
        raise HTTPException(422, f"Module not available: {unknown('preprocessor', module, MODULE_NAMES)}")
    return found


def _steering(unit: Mapping[str, Any], body: DrawBody, asked: Asked) -> tuple[str, dict[str, Any]]:
    named = str(unit.get("model") or "")
    if named.strip().lower() in ABSENT:
        raise refuse("ControlNet", "a unit has no model; /controlnet/model_list lists them")
    when = {
        "weight": _number(unit, "weight", 1.0), "start": _number(unit, "guidance_start", 0.0),
        "end": _number(unit, "guidance_end", 1.0),
    }  # fmt: skip
    image = _picture(unit)
    adapters = asked.files.of_kind("ip-adapter")
    if any(named.split(" [")[0] in (one.name, one.path.name) for one in adapters):
        if image is None:
            raise refuse("ControlNet", f"{named} needs a picture; send image")
        if image.part is not None and extremes(image.part)[1] > FAINT:
            raise refuse("ControlNet", f"{named} looks at the whole picture; leave the mask out")
        return "ip_adapter", {"model": asked.files.find(named, "ip-adapter").name, "image": image.kept(asked), **when}
    model = asked.files.find(named, "controlnet", "ControlNet").name
    hint = hint_of(str(unit.get("module") or "none"))
    if hint == "inpaint" and isinstance(body, Img2ImgBody) and body.mask:
        _check_same(unit, body)
        image = None
    elif image is None and not isinstance(body, Img2ImgBody):
        raise refuse("ControlNet", f"{named} has no picture; send image")
    image = image and image.shown(hint)
    low, high = (_number(unit, name, default) for name, default in (("threshold_a", LOW), ("threshold_b", HIGH)))
    if hint == "canny" and image is not None and (low, high) != (LOW, HIGH) and min(low, high) >= 0:
        hint, image = "none", image.edges(low, high)
    made = {"model": model, "hint": hint, "mode": _mode(unit), "resize": _resize(unit), **when}
    return "control", made if image is None else {**made, "image": image.kept(asked)}


def _check_same(unit: Mapping[str, Any], body: Img2ImgBody) -> None:
    """Refuses a unit's picture for inpainting that is another than the one that is drawn on."""
    given = unit.get("image") or unit.get("input_image")
    if given is not None and given not in (body.init_images or ()):
        raise refuse("ControlNet", "inpainting shows its own picture and mask; leave the unit's picture out")


class _Hinted:
    """The picture of a unit, and of it what its mask marks (L), if that is a part of it."""

    def __init__(self, text: str, mask: str | None):
        self.image = on_white(picture_of(text, "the picture of a ControlNet unit"))
        self.part = None if mask is None else mask_of(mask, rounded=False)
        if self.part is not None and self.part.size != self.image.size:
            raise refuse("ControlNet", "a unit's mask and picture have different sizes; send them in one size")

    def edges(self, low: float, high: float) -> _Hinted:
        self.image = canny(self.image, low, high)
        return self

    def shown(self, hint: str) -> _Hinted:
        """The picture as a preprocessor gets it: for inpainting without what is marked, else the marks themselves.

        A mask that marks all of the picture, or nothing, changes no other hint.
        """
        if hint == "inpaint":
            if self.part is None or extremes(self.part)[1] <= HALF:
                raise refuse("ControlNet", "a unit for inpainting needs a mask that is white where to draw; send mask")
            self.image.putalpha(self.part.point(lambda value: 0 if value > HALF else 255))
        elif self.part is not None:
            low, high = extremes(self.part)
            if high > FAINT and low < 255 - FAINT:
                self.image = self.part.convert("RGB")
        return self

    def kept(self, asked: Asked) -> str:
        return asked.inputs.add(self.image)


def extremes(mask: Image.Image) -> tuple[int, int]:
    """The darkest and the brightest level of a mask."""
    levels = np.asarray(mask)
    return int(levels.min()), int(levels.max())


def _picture(unit: Mapping[str, Any]) -> _Hinted | None:
    given = unit.get("image") or unit.get("input_image")
    mask = unit.get("mask") or unit.get("mask_image")
    if isinstance(given, Mapping):
        mask, given = mask or given.get("mask"), given.get("image")
    if isinstance(given, list):
        given = given[0] if given else None
    for what, text in (("image", given), ("mask", mask)):
        if text and not isinstance(text, str):
            raise refuse("ControlNet", f"{what} is no text; send a picture in base64")
    return _Hinted(given, mask or None) if given else None


def _number(unit: Mapping[str, Any], name: str, default: float) -> float:
    value = unit.get(name)
    if value is None:
        return default
    if not is_number(value) or not -MAX_NUMBER <= value <= MAX_NUMBER:
        raise SfumatoError(f"{name} of a ControlNet unit is {value!r}; give a number")
    return float(value)


def _mode(unit: Mapping[str, Any]) -> str:
    value = unit.get("control_mode", 0)
    modes = [*MODES]
    if isinstance(value, int) and 0 <= value < len(modes):
        return modes[value]
    name = str(value or MODES["balanced"]).lower()
    if name not in MODE_NAMES:
        raise unknown("control_mode", str(value), MODES.values())
    return MODE_NAMES[name]


def _resize(unit: Mapping[str, Any]) -> str:
    value = unit.get("resize_mode", 1)
    if isinstance(value, int) and 0 <= value < len(RESIZE):
        return RESIZE[value]
    name = str(value or "crop and resize").lower()
    if name not in RESIZE_NAMES:
        raise unknown("resize_mode", str(value), ("Just Resize", "Crop and Resize", "Resize and Fill"))
    return RESIZE_NAMES[name]
