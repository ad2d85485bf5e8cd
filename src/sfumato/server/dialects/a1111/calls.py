"""A client's call, which waits for the jobs that it became."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from fastapi import HTTPException

from sfumato.server.jobs.job import Job, JobRequest, State
from sfumato.server.queue import Queue

AT_ONCE = 16  # jobs of a call that are queued; the rest follows as they end
DIALECT = "a1111"


@dataclass(eq=False)
class Call:
    """A call of a user: how many jobs it has, those that were queued so far, and how many of them are ended.

    `name` is the client's own name of it, if it gave one.
    """

    user: str
    total: int
    name: str | None = None
    began: float = field(default_factory=time.time)
    jobs: list[str] = field(default_factory=list)
    ended: int = 0
    stopped: bool = False


class Calls:
    """The calls that wait, in the order in which they came."""

    def __init__(self, queue: Queue):
        self._queue, self._calls = queue, list[Call]()

    def current(self, user: str) -> Call | None:
        """The call of a user that came first; None where none waits."""
        return next((one for one in self._calls if one.user == user), None)

    def named(self, user: str, name: str) -> Call | None:
        """The call of a user by the name that the client gave it."""
        return next((one for one in self._calls if one.user == user and one.name == name), None)

    def names(self, user: str) -> list[str]:
        """The names that clients gave the calls of a user."""
        return [one.name for one in self._calls if one.user == user and one.name is not None]

    async def run(self, user: str, requests: Sequence[JobRequest], name: str | None = None) -> list[Job | None]:
        """Queues requests and waits until all are ended; the jobs, in order.

        Where the call is stopped, those that were not queued yet are None. Raises as `Queue.submit`, and HTTPException
        where one failed; then the others are cancelled.
        """
        call = Call(user, len(requests), name)
        room = asyncio.Semaphore(AT_ONCE)

        async def one(request: JobRequest) -> Job | None:
            async with room:
                if call.stopped:
                    return None
                job = await self._queue.submit(request, user=user, dialect=DIALECT)
                call.jobs.append(job.id)
                if call.stopped:
                    await self._queue.cancel(job.id)
                ended = await self._queue.finished(job.id)
                call.ended += 1
                if ended.state is State.FAILED:
                    raise HTTPException(400 if ended.bad_input else 500, ended.error)
                return ended

        self._calls.append(call)
        try:
            return list(await asyncio.gather(*map(one, requests)))
        except BaseException:
            await self.stop(call)
            raise
        finally:
            self._calls.remove(call)

    async def stop(self, call: Call) -> None:
        """Ends a call with the pictures that it has."""
        call.stopped = True
        for job in list(call.jobs):
            await self._queue.cancel(job)

    async def skip(self, call: Call) -> None:
        """Ends the job of a call that is drawn, with the pictures that it has; the next ones go on."""
        running = {one.job.id for one in self._queue.live.running}
        job = next((job for job in call.jobs if job in running), None)
        if job is not None:
            await self._queue.skip(job)
