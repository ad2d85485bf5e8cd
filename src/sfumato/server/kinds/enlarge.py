"""Pictures enlarged by their pixels alone, without words."""

from __future__ import annotations

from PIL import Image

from sfumato.errors import SfumatoError
from sfumato.hub.local_models import locate
from sfumato.images.files import on_white
from sfumato.loading.upscalers import load_upscaler
from sfumato.pipeline.events import Picture, Progress
from sfumato.pipeline.pixel_upscaling import by_pixels, large_size
from sfumato.server.jobs.job import JobRequest
from sfumato.server.kinds.base import Begun, Bench, Desk, Kind, Work

FILTERS = {
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
}


class Enlarge(Kind):
    """`how` has `scale`, and `upscaler`: a filter of FILTERS, or the name of an upscaler's file."""

    def checked(self, request: JobRequest, desk: Desk) -> JobRequest:
        if "image" not in request.pictures:
            raise SfumatoError("enlarge needs a picture 'image'; send one")
        large_size(desk.inputs.open(request.pictures["image"]), request.how.get("scale", 2))
        return request

    def begin(self, request: JobRequest, bench: Bench, done: int = 0) -> Begun:
        image = on_white(bench.inputs.open(request.pictures["image"]))
        scale, name = request.how.get("scale", 2), request.how.get("upscaler", "lanczos")
        if name in FILTERS:
            return Begun(_filtered(image, scale, FILTERS[name]))
        return Begun(by_pixels(image, load_upscaler(locate(name, "upscaler")[0]), scale).drawing)

    def size(self, request: JobRequest, desk: Desk) -> tuple[int, int]:
        width, height = large_size(desk.inputs.open(request.pictures["image"]), request.how.get("scale", 2))
        return 1, width * height


def _filtered(image: Image.Image, scale: float, how: Image.Resampling) -> Work:
    yield Progress(0, 1, 1, lambda: image)
    yield Picture(0, image.resize(large_size(image, scale), how), 0, "")
