"""Works on many jobs at once: the rows that they ask for share calls of the networks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from sfumato.diffusion.driver import Answer, Row, answer, following
from sfumato.pipeline.events import Picture, Progress
from sfumato.server.kinds.base import Begun, Report

MAX_ROWS = 16  # that share a call


@dataclass(frozen=True)
class Ended:
    """The end of a job, with `error` if it failed."""

    error: Exception | None = None


Happening = Progress | Picture | Report | Ended


@dataclass
class _Working:
    begun: Begun
    rows: list[Row] | None = None
    answers: list[Answer] | None = None


class Engine:
    """The jobs of a worker. With `exact` no two of them share a call, so each picture is the same as drawn alone."""

    def __init__(self, exact: bool = False, max_rows: int = MAX_ROWS):
        self.exact, self.max_rows = exact, max_rows
        self._jobs: dict[str, _Working] = {}

    def add(self, job: str, begun: Begun) -> None:
        """Adds a job, beginning with the next round."""
        self._jobs[job] = _Working(begun)

    def drop(self, job: str) -> None:
        """Stops a job; does nothing for an unknown one."""
        if (one := self._jobs.pop(job, None)) is not None:
            one.begun.work.close()

    @property
    def jobs(self) -> list[str]:
        return [*self._jobs]

    def round(self) -> Iterator[tuple[str, Happening]]:
        """Runs every job to its next call of a network, makes all these calls together, and yields what happened."""
        for job in self.jobs:
            yield from ((job, event) for event in self._to_question(job))
        asking = {job: one for job, one in self._jobs.items() if one.rows is not None}
        if self.exact:
            for one in asking.values():
                one.answers = answer(one.rows or [], one.begun.max_rows)
        else:
            together = iter(answer([row for one in asking.values() for row in one.rows or []], self.max_rows))
            for one in asking.values():
                one.answers = [next(together) for _ in one.rows or []]
        for one in asking.values():
            one.rows = None

    def _to_question(self, job: str) -> Iterator[Happening]:
        one = self._jobs.get(job)
        while one is not None:
            answers, one.answers = one.answers, None
            try:
                event: list[Row] | Progress | Picture | Report | None = following(one.begun.work, answers)
            except Exception as error:
                self.drop(job)
                yield Ended(error)
                return
            if event is None:
                self.drop(job)
                yield Ended()
                return
            if isinstance(event, list):
                one.rows = event
                return
            yield event
            one = self._jobs.get(job)  # whoever listens may have dropped it

    def close(self) -> None:
        """Stops all jobs."""
        for job in self.jobs:
            with suppress(Exception):
                self.drop(job)
