"""What a ControlNet would be shown of a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from PIL import Image

from sfumato.errors import SfumatoError, unknown
from sfumato.images.control.canny import HIGH, LOW, canny
from sfumato.images.files import check_size
from sfumato.images.resize import Resize, fitted
from sfumato.pipeline.events import Picture, Progress
from sfumato.pipeline.hints import make_hint
from sfumato.server.jobs.job import JobRequest
from sfumato.server.kinds.base import Bench, Work
from sfumato.server.kinds.on_picture import OnPicture
from sfumato.settings.checks import check_number, check_whole
from sfumato.settings.control import HINTS
from sfumato.spec import MAX_SIDE

SHORT = 64
MAX_THRESHOLD = 4096


class Hint(OnPicture):
    """`how` has `hint`, one of HINTS but inpaint; `short`, the pixels of the shorter side, or `size` (width and height)
    and `resize` as `images.resize.fitted` (without them the picture keeps its size); `low` and `high`, the thresholds
    of canny; `depth_model`, the model whose network sees depth."""

    OPTIONS = ("hint", "short", "size", "resize", "low", "high", "depth_model")

    def check(self, image: Image.Image, how: Mapping[str, Any]) -> None:
        if how.get("hint") not in HINTS[:-1]:
            raise unknown("hint", how.get("hint"), HINTS[:-1])
        for name in ("low", "high"):
            check_number(name, how.get(name, LOW), 0, MAX_THRESHOLD, LOW)
        if how.get("short") is not None:
            check_number("short", how["short"], SHORT, MAX_SIDE, 512)
        size = how.get("size", [1, 1])
        if not isinstance(size, list | tuple) or len(size) != 2:
            raise SfumatoError(f"size is {size!r}; give width and height, such as [512, 512]")
        for side in size:
            check_whole("a side of size", side, 1, MAX_SIDE)
        if how.get("resize", "crop") not in get_args(Resize):
            raise unknown("resize", how["resize"], get_args(Resize))
        check_size(*_size(image, how), "the hint")

    def work(self, image: Image.Image, request: JobRequest, bench: Bench) -> Work:
        how = request.how
        fit = how.get("resize", "crop") if "size" in how else "stretch"
        image = fitted(image, *_size(image, how), fit)
        yield Progress(0, 1, 1, lambda: image)
        yield Picture(0, _hint(image, request, bench), 0, "")


def _size(image: Image.Image, how: Mapping[str, Any]) -> tuple[int, int]:
    """Width and height at which the hint is made."""
    if how.get("short") is not None:
        scale = how["short"] / min(image.size)
        return max(1, round(scale * image.width)), max(1, round(scale * image.height))
    return (how["size"][0], how["size"][1]) if "size" in how else image.size


def _hint(image: Image.Image, request: JobRequest, bench: Bench) -> Image.Image:
    how = request.how
    if how["hint"] == "canny":
        return canny(image, how.get("low", LOW), how.get("high", HIGH))
    depth_model = how.get("depth_model")
    needs_model = how["hint"] in ("depth", "normal") and depth_model is None
    return make_hint(how["hint"], image, depth_model, bench.model(request.model).depth if needs_model else None)
