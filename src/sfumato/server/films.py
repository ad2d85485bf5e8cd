"""The steps of pictures whose attention was asked for, kept so that they can be gone through again later."""

from __future__ import annotations

import base64
import json
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from sfumato.files import atomic_write
from sfumato.server.watchers import JobEvent

MOST = 100  # films that are kept
FIRST = 0  # the picture of a job whose steps are kept
Frame = dict[str, Any]
"""A step: its number, its preview as a data URL, and the attention by word, as a report of a job has it, or None."""


class Films:
    """The films in a folder, one a job, written by an executor; a listener of all events of jobs."""

    def __init__(self, folder: Path, executor: Executor):
        self._folder, self._executor = folder, executor
        self._attention: dict[str, Any] = {}
        self._frames: dict[str, list[Frame]] = {}

    def tell(self, event: JobEvent) -> None:
        """Gathers the steps of jobs that report attention, and keeps them when these end."""
        if event.what == "report" and (seen := event.data.get("attention")) and seen["picture"] == FIRST:
            self._attention[event.job] = seen
        elif event.what == "progress" and event.preview and event.job in self._attention:
            if event.data["picture"] == FIRST:
                self._add(event)
        elif event.what == "queued" or event.ends:
            self._attention.pop(event.job, None)
            frames = self._frames.pop(event.job, None)
            if frames and event.ends:
                self._executor.submit(self._write, event.job, frames)

    def _add(self, event: JobEvent) -> None:
        seen, step = self._attention[event.job], event.data["step"]
        self._frames.setdefault(event.job, []).append({
            "step": step, "preview": "data:image/jpeg;base64," + base64.b64encode(event.preview).decode(),
            "attention": seen if seen["step"] == step else None,
        })  # fmt: skip

    def _write(self, job: str, frames: list[Frame]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(self._path(job)) as file:
            file.write(json.dumps(frames, ensure_ascii=False).encode())
        for old in self.jobs()[MOST:]:
            self.forget(old)

    def jobs(self) -> list[str]:
        """The jobs that have a film, the newest first."""
        found = sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
        return [path.stem for path in found]

    def frames(self, job: str) -> list[Frame]:
        """The steps of a job; none where nothing was kept."""
        path = self._path(job)
        return json.loads(path.read_bytes()) if path.is_file() else []

    def forget(self, job: str) -> None:
        """Removes the film of a job."""
        self._path(job).unlink(missing_ok=True)

    def _path(self, job: str) -> Path:
        return self._folder / f"{job}.json"
