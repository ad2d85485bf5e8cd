"""The jobs that have not ended, in memory: whose turn is next, which worker has room, how long each still needs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sfumato.server.jobs.job import Job, State
from sfumato.server.turns import in_turn
from sfumato.server.worker.link import Link

AT_ONCE = 4 * 256 * 256  # pixels that a worker without a GPU draws side by side
AT_ONCE_GPU = 4 * 1024 * 1024


@dataclass
class LiveJob:
    """A job that has not ended.

    `weight` is the number of pixels that it draws. `alone` is true if its worker or the server died while it was
    drawn: then no other job is drawn beside it, so that a job that kills its worker takes no other with it twice.
    """

    job: Job
    weight: int
    alone: bool = False
    link: Link | None = None
    steps: dict[int, tuple[int, int]] = field(default_factory=dict)
    preview: bytes = b""
    began: float | None = None
    cancelled: State | None = None

    @property
    def progress(self) -> float:
        """The share of its steps that are done, as far as is known."""
        pictures = max(1, int(self.job.request.options.get("n") or 1), len(self.steps))
        return min(1.0, sum(step / steps for step, steps in self.steps.values() if steps) / pictures)


class LiveJobs:
    """All jobs that wait for one of the workers `links`, or that one has. `at_once` limits the pixels of a worker."""

    def __init__(self, links: Sequence[Link], at_once: int | None):
        self._links, self._at_once = links, at_once
        self._jobs: dict[str, LiveJob] = {}
        self._served: dict[str, float] = {}
        self._order: list[LiveJob] | None = None
        self._positions: dict[str, int] | None = None
        self._rate: float | None = None  # seconds that a pixel took lately

    def __iter__(self) -> Iterator[LiveJob]:
        return iter(list(self._jobs.values()))

    def __contains__(self, job: str) -> bool:
        return job in self._jobs

    def get(self, job: str) -> LiveJob | None:
        """Returns the job with an id; None if it has ended, or never was."""
        return self._jobs.get(job)

    def add(self, job: Job, weight: int, alone: bool = False) -> None:
        """Adds a job that waits."""
        self._jobs[job.id] = LiveJob(job, weight, alone)
        self._changed()

    def remove(self, job: str) -> None:
        """Removes a job that has ended."""
        self._jobs.pop(job, None)
        self._changed()

    def give(self, one: LiveJob, link: Link) -> None:
        """Notes that a worker gets the job."""
        one.link, one.began = link, time.monotonic()
        self._served[one.job.user] = one.began
        self._changed()

    def take_back(self, one: LiveJob) -> None:
        """Lets the job of a worker that died wait again, to be drawn alone."""
        one.link, one.steps, one.alone = None, {}, True
        self._changed()

    @property
    def running(self) -> list[LiveJob]:
        """Jobs that a worker has, oldest first."""
        return [one for one in self if one.link is not None]

    @property
    def waiting(self) -> list[LiveJob]:
        """Waiting jobs, in the order in which they will be drawn if no other job comes."""
        if self._order is None:
            waiting = {one.job.id: one for one in self if one.link is None}
            order = in_turn((one.job for one in waiting.values()), self._served)
            self._order = [waiting[job.id] for job in order]
        return self._order

    def position(self, job: str) -> int | None:
        """Returns how many jobs are before a waiting one; None for a job that does not wait."""
        if self._positions is None:
            self._positions = {one.job.id: k for k, one in enumerate(self.waiting)}
        return self._positions.get(job)

    def worker_for(self, one: LiveJob) -> Link | None:
        """Returns the worker for a job, if possible one that has loaded its model; None if all are busy."""
        free = []
        for link in self._links:
            if not link.ready:
                continue
            beside = [other for other in self if other.link is link]
            weight = sum(other.weight for other in beside)
            suits = AT_ONCE if (link.device or "cpu").startswith("cpu") else AT_ONCE_GPU
            most = suits if self._at_once is None else self._at_once
            fits = weight + one.weight <= most and not any(other.alone for other in (one, *beside))
            if not beside or fits:
                free.append((one.job.request.model not in link.models, weight, link))
        return min(free, key=lambda each: each[:2])[2] if free else None

    def measure(self, one: LiveJob) -> None:
        """Learns from a job that is done how long a pixel takes."""
        if one.began is not None:
            seconds = (time.monotonic() - one.began) / max(1, one.weight)
            self._rate = seconds if self._rate is None else 0.7 * self._rate + 0.3 * seconds

    def seconds_left(self, job: str) -> float | None:
        """Returns about how many seconds a job still needs; None if that is not known."""
        one = self._jobs.get(job)
        if one is None or self._rate is None:
            return None
        left = sum((1 - other.progress) * other.weight for other in self.running if other is not one)
        if one.link is None:
            order = self.waiting
            left += sum(other.weight for other in order[: order.index(one)])
        return round(self._seconds(left + (1 - one.progress) * one.weight), 1)

    def seconds_for_room(self) -> int:
        """Returns about how many seconds pass until another job may wait; at least 1."""
        return max(1, round(self._seconds(min((one.weight for one in self), default=0))))

    def _seconds(self, pixels: float) -> float:
        return pixels * (self._rate or 0) / max(1, len(self._links))

    def _changed(self) -> None:
        """Forgets in which order jobs wait."""
        self._order = self._positions = None
