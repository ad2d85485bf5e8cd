"""A picture in few bytes, and what the model draws of them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from PIL import Image

from sfumato.pipeline.events import Picture, Progress
from sfumato.server.jobs.job import JobRequest
from sfumato.server.kinds.base import Bench, Report, Work
from sfumato.server.kinds.on_picture import OnPicture
from sfumato.tasks.compress import QUALITY, check_quality


class Compress(OnPicture):
    """Reports the `file` (base64) with its number of `bytes`, and shows the picture that comes back of it.

    `how` has `quality` as `sd.compress`.
    """

    OPTIONS = ("quality",)

    def check(self, image: Image.Image, how: Mapping[str, Any]) -> None:
        check_quality(how.get("quality", QUALITY))

    def work(self, image: Image.Image, request: JobRequest, bench: Bench) -> Work:
        yield Progress(0, 1, 2, lambda: image)
        model = bench.model(request.model)
        data = model.compress(image, quality=request.how.get("quality", QUALITY))
        yield Report({"file": base64.b64encode(data).decode(), "bytes": len(data)}, final=True)
        yield Picture(0, model.decompress(data), 0, "")
