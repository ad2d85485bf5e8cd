"""A picture in few bytes, and what the model draws of them."""

from __future__ import annotations

import base64

from sfumato.errors import SfumatoError
from sfumato.images.files import on_white
from sfumato.pipeline.events import Picture, Progress
from sfumato.server.jobs.job import JobRequest
from sfumato.server.kinds.base import Begun, Bench, Desk, Kind, Report, Work
from sfumato.tasks.compress import QUALITY


class Compress(Kind):
    """Reports the `file` (base64) with its number of `bytes`, and shows the picture that comes back of it.

    `how` has `quality` as `sd.compress`.
    """

    def checked(self, request: JobRequest, desk: Desk) -> JobRequest:
        if "image" not in request.pictures:
            raise SfumatoError("compress needs a picture 'image'; send one")
        if set(request.how) - {"quality"}:
            raise SfumatoError("compress has one option, `quality`; leave out the others")
        desk.inputs.open(request.pictures["image"])
        return request

    def begin(self, request: JobRequest, bench: Bench, done: int = 0) -> Begun:
        return Begun(_compressed(request, bench))


def _compressed(request: JobRequest, bench: Bench) -> Work:
    image, model = on_white(bench.inputs.open(request.pictures["image"])), bench.model(request.model)
    yield Progress(0, 1, 2, lambda: image)
    data = model.compress(image, quality=request.how.get("quality", QUALITY))
    yield Report({"file": base64.b64encode(data).decode(), "bytes": len(data)}, final=True)
    yield Picture(0, model.decompress(data), 0, "")
