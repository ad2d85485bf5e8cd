"""What a ControlNet would be shown of a picture."""

from __future__ import annotations

from PIL import Image

from sfumato.errors import SfumatoError, unknown
from sfumato.images.control.canny import HIGH, LOW, canny
from sfumato.images.files import on_white
from sfumato.images.resize import fitted
from sfumato.pipeline.events import Picture, Progress
from sfumato.pipeline.hints import make_hint
from sfumato.server.jobs.job import JobRequest
from sfumato.server.kinds.base import Begun, Bench, Desk, Kind, Work
from sfumato.settings.checks import check_number
from sfumato.settings.control import HINTS
from sfumato.spec import MAX_SIDE

SHORT = 64
MAX_THRESHOLD = 4096


class Hint(Kind):
    """`how` has `hint`, one of HINTS but inpaint; `short`, the pixels of the shorter side (none: the picture's own);
    `low` and `high`, the thresholds of canny; `depth_model`, the model whose network sees depth."""

    def checked(self, request: JobRequest, desk: Desk) -> JobRequest:
        how = request.how
        if "image" not in request.pictures:
            raise SfumatoError("hint needs a picture 'image'; send one")
        if how.get("hint") not in HINTS[:-1]:
            raise unknown("hint", how.get("hint"), HINTS[:-1])
        for name in ("low", "high"):
            check_number(name, how.get(name, LOW), 0, MAX_THRESHOLD, LOW)
        if how.get("short") is not None:
            check_number("short", how["short"], SHORT, MAX_SIDE, 512)
        desk.inputs.open(request.pictures["image"])
        return request

    def begin(self, request: JobRequest, bench: Bench, done: int = 0) -> Begun:
        return Begun(_made(request, bench))


def _made(request: JobRequest, bench: Bench) -> Work:
    image, how = on_white(bench.inputs.open(request.pictures["image"])), request.how
    if how.get("short") is not None:
        scale = how["short"] / min(image.size)
        image = fitted(image, *(max(1, round(scale * side)) for side in image.size), "stretch")
    yield Progress(0, 1, 1, lambda: image)
    yield Picture(0, _hint(image, request, bench), 0, "")


def _hint(image: Image.Image, request: JobRequest, bench: Bench) -> Image.Image:
    how = request.how
    if how["hint"] == "canny":
        return canny(image, how.get("low", LOW), how.get("high", HIGH))
    depth_model = how.get("depth_model")
    needs_model = how["hint"] in ("depth", "normal") and depth_model is None
    return make_hint(how["hint"], image, depth_model, bench.model(request.model).depth if needs_model else None)
