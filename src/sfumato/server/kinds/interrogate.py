"""What a picture shows, in words."""

from __future__ import annotations

from sfumato.errors import SfumatoError
from sfumato.images.files import on_white
from sfumato.server.jobs.job import JobRequest
from sfumato.server.kinds.base import Begun, Bench, Desk, Kind, Report, Work


class Interrogate(Kind):
    """Tells the captions that fit a picture best; `how` has `captions`, `top` and `language` as `sd.interrogate`."""

    def checked(self, request: JobRequest, desk: Desk) -> JobRequest:
        if "image" not in request.pictures:
            raise SfumatoError("interrogate needs a picture 'image'; send one")
        desk.inputs.open(request.pictures["image"])
        return request

    def begin(self, request: JobRequest, bench: Bench, done: int = 0) -> Begun:
        return Begun(_matches(request, bench))


def _matches(request: JobRequest, bench: Bench) -> Work:
    image, model = on_white(bench.inputs.open(request.pictures["image"])), bench.model(request.model)
    matches = model.interrogate(image, **request.how)
    yield Report({"matches": [{"caption": one.caption, "score": one.score} for one in matches]}, final=True)
