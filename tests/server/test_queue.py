"""In which order jobs wait, and what happens to them while workers come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sfumato.errors import SfumatoError
from sfumato.server.config import Config
from sfumato.server.jobs.job import JobRequest, State
from sfumato.server.queue import Queue, QueueFull, Stopping


class Pretended:
    """A worker that draws nothing: tests say what it says."""

    def __init__(self, config: Config, device: str | None, heard: Any):
        self.heard, self.sent = heard, list[Mapping[str, Any]]()
        self.device: str | None = "cpu"
        self.models: list[str] = []
        self.bytes = 0
        self.ready = True

    def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def send(self, message: Mapping[str, Any]) -> None:
        self.sent.append(message)

    async def says(self, said: str, job: str = "", **more: Any) -> None:
        await self.heard(self, {"say": said, "job": job, **more}, b"")

    @property
    def started(self) -> list[str]:
        return [one["job"] for one in self.sent if one["do"] == "start"]


def request(**options: Any) -> JobRequest:
    return JobRequest(prompt="a cat", options={"steps": 2, "width": 512, "height": 512, **options})


def run(test: Any, folder: Path, **config: Any) -> None:
    async def opened() -> None:
        queue = Queue(Config(folder=folder, drain=0.1, **config), Pretended)
        await queue.open()
        try:
            await test(queue, queue.links[0])
        finally:
            await queue.close()

    asyncio.run(opened())


def test_turns_are_fair(tmp_path: Path) -> None:
    async def test(queue: Queue, worker: Pretended) -> None:
        busy = await queue.submit(request(), user="ann")
        many = [await queue.submit(request(), user="ann") for _ in range(3)]
        bob = [await queue.submit(request(), user="bob") for _ in range(2)]
        urgent = await queue.submit(request(), user="ann", priority=1)
        assert worker.started == [busy.id]
        order = [one.job.id for one in queue.live.waiting]
        assert order == [urgent.id, bob[0].id, many[0].id, bob[1].id, many[1].id, many[2].id]
        assert [queue.live.position(one) for one in (urgent.id, many[2].id, busy.id)] == [0, 5, None]
        await worker.says("done", busy.id, report={})
        assert worker.started == [busy.id, urgent.id]
        assert (await queue.get(busy.id)).state is State.DONE

    run(test, tmp_path)


def test_jobs_of_a_worker_that_died_are_drawn_again(tmp_path: Path) -> None:
    async def test(queue: Queue, worker: Pretended) -> None:
        job = (await queue.submit(request(n=3))).id
        saved = {"index": 0, "file": "a.png", "seed": 1, "infotext": "", "width": 8, "height": 8}
        await worker.says("picture", job, picture=saved)
        await worker.says("died")
        assert worker.started == [job, job] and worker.sent[-1]["done"] == 1
        await worker.says("died")
        failed = await queue.get(job)
        assert failed.state is State.FAILED and "died 2 times" in str(failed.error) and len(failed.pictures) == 1
        assert (await queue.retry(job)).state is State.QUEUED
        await worker.says("done", job, report={"a": 1})
        assert (await queue.finished(job)).report == {"a": 1}

    run(test, tmp_path)


def test_what_a_death_cut_short_is_drawn_alone_and_last(tmp_path: Path) -> None:
    small = {"width": 64, "height": 64}

    async def cut(queue: Queue, worker: Pretended) -> None:
        first, second = [(await queue.submit(request(**small))).id for _ in range(2)]
        assert worker.started == [first, second]
        await worker.says("died")
        assert worker.started == [first, second, first]  # alone
        fresh = [(await queue.submit(request(**small))).id for _ in range(2)]
        await worker.says("died")  # the first is at fault; the others did nothing
        assert (await queue.get(first)).state is State.FAILED
        assert worker.started[3:] == fresh
        await worker.says("done", fresh[0], report={})
        assert worker.started[5:] == []
        await worker.says("done", fresh[1], report={})
        assert worker.started[5:] == [second]

    run(cut, tmp_path)

    async def restarted(queue: Queue, worker: Pretended) -> None:  # the server was stopped in peace: nothing is counted
        await worker.says("ready")
        (left,) = queue.live.running
        assert worker.started == [left.job.id] and left.job.attempts == 1

    run(restarted, tmp_path)


def test_what_waits_is_there_after_a_restart(tmp_path: Path) -> None:
    jobs: list[str] = []

    async def first(queue: Queue, worker: Pretended) -> None:
        jobs.extend([(await queue.submit(request(seed=k))).id for k in range(3)])
        assert worker.started == jobs[:1]

    async def second(queue: Queue, worker: Pretended) -> None:
        await worker.says("ready")
        assert worker.started == jobs[:1]
        for job in jobs:
            await worker.says("done", job, report={})
        assert worker.started == jobs

    run(first, tmp_path)
    run(second, tmp_path)


def test_a_full_queue_says_when_to_come_back(tmp_path: Path) -> None:
    async def test(queue: Queue, worker: Pretended) -> None:
        for _ in range(3):
            await queue.submit(request())
        with pytest.raises(QueueFull) as full:
            await queue.submit(request())
        assert full.value.retry_after >= 1

    run(test, tmp_path, queue=2)


def test_ends_by_request(tmp_path: Path) -> None:
    async def test(queue: Queue, worker: Pretended) -> None:
        first, second, third = [(await queue.submit(request())).id for _ in range(3)]
        watching = asyncio.create_task(collect(queue, second))
        await asyncio.sleep(0.05)
        assert await queue.cancel(second) and not await queue.cancel(second)
        assert await watching == ["cancelled"]
        assert await queue.skip(first) and worker.sent[-2] == {"do": "drop", "job": first}
        assert worker.started == [first, third]
        await worker.says("progress", first, picture=0, step=1, steps=2)  # what came too late harms nobody
        assert [(await queue.get(one)).state for one in (first, second)] == [State.DONE, State.CANCELLED]
        assert await collect(queue, first) == ["done"]

    run(test, tmp_path)


async def collect(queue: Queue, job: str) -> list[str]:
    return [event.what async for event in queue.events(job)]


def test_a_model_that_is_none_is_noticed_at_once(tmp_path: Path) -> None:
    with pytest.raises(SfumatoError, match="nowhere"):
        Queue(Config(folder=tmp_path, model="nowhere"))


def test_stopping_sends_listeners_away_and_takes_nothing_more(tmp_path: Path) -> None:
    async def test(queue: Queue, worker: Pretended) -> None:
        running, waiting = [(await queue.submit(request())).id for _ in range(2)]
        listening = asyncio.create_task(collect(queue, waiting))
        expecting = asyncio.create_task(queue.finished(waiting))
        draining = asyncio.create_task(queue.drain())
        await asyncio.sleep(0.01)
        with pytest.raises(Stopping):
            await queue.submit(request())
        await worker.says("done", running, report={})
        await draining
        assert await listening == [] and worker.started == [running]
        with pytest.raises(Stopping):
            await expecting

    run(test, tmp_path)
