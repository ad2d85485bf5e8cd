"""Pictures enlarged by their pixels alone, without words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from sfumato.errors import SfumatoError
from sfumato.hub.local_models import locate
from sfumato.loading.upscalers import load_upscaler
from sfumato.pipeline.events import Picture, Progress
from sfumato.pipeline.pixel_upscaling import by_pixels, large_size
from sfumato.server.jobs.job import JobRequest
from sfumato.server.kinds.base import Bench, Desk, Work
from sfumato.server.kinds.on_picture import OnPicture

SCALE = 2
FILTERS = {
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
}


class Enlarge(OnPicture):
    """`how` has `scale`, and `upscaler`: a filter of FILTERS, or the name of an upscaler's file."""

    OPTIONS = ("scale", "upscaler")

    def check(self, image: Image.Image, how: Mapping[str, Any]) -> None:
        large_size(image, how.get("scale", SCALE))
        _upscaler(how)

    def work(self, image: Image.Image, request: JobRequest, bench: Bench) -> Work:
        scale, upscaler = request.how.get("scale", SCALE), _upscaler(request.how)
        if isinstance(upscaler, Path):
            yield from by_pixels(image, load_upscaler(upscaler), scale).drawing
            return
        yield Progress(0, 1, 1, lambda: image)
        yield Picture(0, image.resize(large_size(image, scale), upscaler), 0, "")

    def size(self, request: JobRequest, desk: Desk) -> tuple[int, int]:
        width, height = large_size(desk.inputs.open(request.pictures["image"]), request.how.get("scale", SCALE))
        return 1, width * height


def _upscaler(how: Mapping[str, Any]) -> Image.Resampling | Path:
    """The filter, or the file of the upscaler. Raises SfumatoError for a name of neither."""
    name = how.get("upscaler", "lanczos")
    if not isinstance(name, str):
        raise SfumatoError(f"upscaler is {name!r}; give a name, such as lanczos")
    return FILTERS[name] if name in FILTERS else locate(name, "upscaler")[0]
