"""Work on one picture, without drawing."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from PIL import Image

from sfumato.errors import SfumatoError, unknown
from sfumato.images.files import on_white
from sfumato.server.jobs.job import JobRequest
from sfumato.server.kinds.base import Begun, Bench, Desk, Kind, Work


class OnPicture(Kind):
    """A kind of request that takes one picture, `image`, and the options `OPTIONS` in `how`."""

    OPTIONS: ClassVar[tuple[str, ...]]

    def checked(self, request: JobRequest, desk: Desk) -> JobRequest:
        if set(request.pictures) != {"image"}:
            raise SfumatoError(f"{request.kind} takes one picture, named 'image'; send it, and no other")
        for name in request.how:
            if name not in self.OPTIONS:
                raise unknown(f"option of {request.kind}", name, self.OPTIONS)
        self.check(desk.inputs.open(request.pictures["image"]), request.how)
        return request

    def begin(self, request: JobRequest, bench: Bench, done: int = 0) -> Begun:
        return Begun(self.work(on_white(bench.inputs.open(request.pictures["image"])), request, bench))

    @abstractmethod
    def check(self, image: Image.Image, how: Mapping[str, Any]) -> None:
        """Raises SfumatoError for options that cannot be honoured."""

    @abstractmethod
    def work(self, image: Image.Image, request: JobRequest, bench: Bench) -> Work:
        """Works on the picture, in RGB."""
