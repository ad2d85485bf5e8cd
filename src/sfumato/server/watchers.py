"""Sends the events of jobs to those who listen."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from sfumato.server.jobs.job import State

MAX_UNREAD = 256  # events that wait for one listener
Listening = asyncio.Queue["JobEvent | None"]


@dataclass(frozen=True)
class JobEvent:
    """An event of a job: `what` is queued, started, progress, picture, report, or the state in which it ended."""

    what: str
    job: str
    data: Mapping[str, Any] = field(default_factory=dict)
    preview: bytes = b""

    @property
    def ends(self) -> bool:
        """Whether this is the job's last event."""
        return self.what in (State.DONE, State.FAILED, State.CANCELLED)


class Listener(Protocol):
    """Who is told of everything at once, without waiting for it."""

    def tell(self, event: JobEvent) -> None: ...


class Watchers:
    """Those who listen, to one job or to all of them; the `first` hear each event before they do."""

    def __init__(self, *first: Listener) -> None:
        self._first = first
        self._listening: dict[str | None, set[Listening]] = defaultdict(set)

    @contextmanager
    def watch(self, job: str | None) -> Iterator[Listening]:
        """Gives a queue of the events of a job, or with None of all jobs, inside a `with`; a None in it is the end."""
        events: Listening = asyncio.Queue()
        self._listening[job].add(events)
        try:
            yield events
        finally:
            self._listening[job].discard(events)
            if not self._listening[job]:
                del self._listening[job]

    def tell(self, event: JobEvent) -> None:
        """Sends an event to all who listen for it; slow listeners miss events of steps, and no others."""
        for one in self._first:
            one.tell(event)
        for events in (*self._listening.get(event.job, ()), *self._listening.get(None, ())):
            if event.what != "progress" or events.qsize() < MAX_UNREAD:
                events.put_nowait(event)

    def dismiss(self) -> None:
        """Ends all listening."""
        for events in [one for several in self._listening.values() for one in several]:
            events.put_nowait(None)
