"""Decides whose turn it is: fair among users, however many jobs each of them sent."""

from __future__ import annotations

import heapq
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping

from sfumato.server.jobs.job import Job


def in_turn(waiting: Iterable[Job], served: Mapping[str, float]) -> list[Job]:
    """Returns jobs in the order in which they are drawn.

    Jobs of higher priority come first. Among equal ones, the user whose last turn is longest ago is next (`served` has
    the time of each user's last turn, in seconds of `time.monotonic`), with the job that came first; what was started
    before, and did not end since something died, is drawn after what was not.
    """
    by_user: dict[str, list[Job]] = defaultdict(list)
    for job in waiting:
        by_user[job.user].append(job)
    heap: list[tuple[int, float, int, str]] = []

    def offer(user: str, at: float) -> None:
        if by_user[user]:
            job = by_user[user][-1]
            heapq.heappush(heap, (-job.priority, at, job.number, user))

    for user, jobs in by_user.items():
        jobs.sort(key=lambda job: (job.priority, -job.attempts, -job.number))
        offer(user, served.get(user, 0.0))
    order, now = [], time.monotonic()
    while heap:
        user = heapq.heappop(heap)[-1]
        order.append(by_user[user].pop())
        now += 1e-6
        offer(user, now)
    return order
