"""A server that draws nothing: its answers have the shapes of /api, its pictures are grey."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping
from typing import Any

from PIL import Image

from sfumato.client import ClientJob, JobPicture, ServerError


def png(colour: str = "grey", side: int = 64) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(file, "PNG")
    return file.getvalue()


class Studio:
    """In place of a `Client`. A job is queued, then running, then done, a state each time somebody looks at it."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self._jobs: dict[str, ClientJob] = {}
        self._numbers = itertools.count(1)
        self.stuck = False  # whether jobs stay as they are

    @property
    def last(self) -> dict[str, Any]:
        """The last request; an empty one before the first."""
        return self.requests[-1] if self.requests else {}

    def submit(self, prompt: str = "", **request: Any) -> ClientJob:
        if request.get("options", {}).get("sampler") == "nonsense":
            raise ServerError(400, "unknown sampler 'nonsense'")
        kind = request.get("kind", "txt2img")
        given = {"kind": kind, "prompt": prompt, "negative": "", "model": "emoji", "how": {}, "pictures": {}, **request}
        self.requests.append({"prompt": prompt, **request})
        job = ClientJob(
            id=f"{next(self._numbers):032x}", state="queued", kind=kind, request={"options": {}, **given}, created=0.0,
            position=2, report={},
        )  # fmt: skip
        self._jobs[job.id] = job
        return job

    def job(self, job: str) -> ClientJob:
        found = self._jobs.get(job)
        if found is None:
            raise ServerError(404, f"there is no job {job!r}")
        if not self.stuck:
            self._jobs[job] = _next(found)
        return self._jobs[job]

    def cancel(self, job: str) -> ClientJob:
        self._jobs[job] = _with(self._jobs[job], state="cancelled", position=None)
        return self._jobs[job]

    def picture(self, picture: JobPicture) -> bytes:
        return png(side=picture.width)


def _next(job: ClientJob) -> ClientJob:
    if job.state == "queued":
        return _with(job, state="running", position=None, progress=0.5, seconds_left=3.2)
    if job.state != "running":
        return job
    if job.kind == "interrogate":
        return _with(job, state="done", report={"matches": [{"caption": "a cat", "score": 0.91}]})
    seed = job.request["options"].get("seed", 100)
    pictures = tuple(
        JobPicture(index=k, url=f"/api/jobs/{job.id}/pictures/{k}", seed=seed + k, infotext="", width=64, height=64)
        for k in range(job.request["options"].get("n", 1))
    )
    return _with(job, state="done", progress=1.0, seconds_left=None, pictures=pictures)


def _with(job: ClientJob, **changed: Any) -> ClientJob:
    fields: Mapping[str, Any] = vars(job)
    return ClientJob(**{**fields, **changed})
