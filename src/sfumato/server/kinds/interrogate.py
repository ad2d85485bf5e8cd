"""What a picture shows, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PIL import Image

from sfumato.server.jobs.job import JobRequest
from sfumato.server.kinds.base import Bench, Report, Work
from sfumato.server.kinds.on_picture import OnPicture
from sfumato.tasks.interrogate import check_captions
from sfumato.text.emoji_names import names


class Interrogate(OnPicture):
    """Reports the captions that fit a picture best; `how` has `captions`, `top` and `language` as `sd.interrogate`."""

    OPTIONS = ("captions", "top", "language")

    def check(self, image: Image.Image, how: Mapping[str, Any]) -> None:
        captions = how.get("captions")
        check_captions(names(how.get("language", "en")) if captions is None else captions, how.get("top", 1))

    def work(self, image: Image.Image, request: JobRequest, bench: Bench) -> Work:
        matches = bench.model(request.model).interrogate(image, **request.how)
        yield Report({"matches": [{"caption": one.caption, "score": one.score} for one in matches]}, final=True)
