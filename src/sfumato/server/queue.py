"""The queue: which job is drawn next and by whom, and what those who wait are told."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

from sfumato.errors import SfumatoError
from sfumato.hub.local_models import EMBEDDED, models
from sfumato.provenance.credentials import Credentials
from sfumato.server.config import Config
from sfumato.server.desk import Desk
from sfumato.server.films import Films
from sfumato.server.jobs.gallery import Gallery
from sfumato.server.jobs.inputs import Inputs, find_inputs
from sfumato.server.jobs.job import Job, JobRequest, SavedPicture, State
from sfumato.server.jobs.store import MAX_STARTS, TOO_OFTEN, Reader, Store
from sfumato.server.live_jobs import LiveJob, LiveJobs
from sfumato.server.logs import LOGGER
from sfumato.server.tracing import JobSpans, tracer
from sfumato.server.watchers import JobEvent, Watchers
from sfumato.server.worker.link import Link, ProcessLink

LONGEST_ANSWER = 30.0  # seconds
ADVICE = "wait until a job is done, or cancel one"
Given = ParamSpec("Given")
Result = TypeVar("Result")
UNUSED = 7 * 86_400.0  # seconds for which a picture is kept that no job names
log = logging.getLogger(LOGGER)


class QueueFull(SfumatoError):
    """The queue is full; `retry_after` is the number of seconds after which to try again."""

    def __init__(self, length: int, retry_after: int):
        super().__init__(f"{length} jobs are waiting, which is the limit here; {ADVICE}")
        self.retry_after = retry_after


class Unanswered(Exception):
    """No worker answered a question in time."""


class Stopping(SfumatoError):
    """The server is about to stop; what waits is drawn after its next start."""

    def __init__(self) -> None:
        super().__init__("the server is being stopped; what waits is drawn when it runs again")


class Queue:
    """All jobs of a server. Its methods are called on the event loop; the database is written in a thread of its own,
    and read in another, because a commit waits for the disk.

    `link` is the kind of its workers.
    """

    def __init__(self, config: Config, link: type[Link] = ProcessLink):
        self.config = config
        self.inputs = Inputs(config.inputs)
        self.desk = Desk(self.inputs, config)
        if config.model is not None:
            self.desk.spec(config.model)
        self.links = [link(config, device, self._heard) for device in config.devices]
        self.live = LiveJobs(self.links, config.at_once)
        self.credentials = None if config.credentials is None else Credentials(*config.credentials)
        self.draining = False
        self.counts: dict[str, int] = defaultdict(int)
        self._looking: asyncio.Task[object] | None = None
        self._questions: dict[str, asyncio.Future[Mapping[str, Any]]] = {}
        self._dispatching = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, "sfumato-store")
        self._reading = ThreadPoolExecutor(1, "sfumato-reader")
        self._checks = ThreadPoolExecutor(2, "sfumato-checks")
        self.films = Films(config.folder / "films", self._checks)
        self.watchers = Watchers(JobSpans(tracer()), self.films)
        self.store: Store
        self._reader: Reader

    async def open(self) -> None:
        """Opens the database, takes up what a crash left, and starts the workers."""
        self.store = await self._in_thread(Store, self.config.database)
        self._reader = await self._read(Reader, self.config.database)
        again, given_up = await self._in_thread(self.store.recover)
        for job in given_up:
            log.warning("job %s is given up: %s", job.id, job.error)
        for job in again:
            self.live.add(job, await self._weight(job.request), alone=job.attempts > 0)
        pruned = await self._in_thread(self._prune)
        log.info("server starts", extra={"jobs_waiting": len(again), "pictures_pruned": pruned})
        for link in self.links:
            link.start()

    def _prune(self) -> int:
        """Removes pictures that came long ago and that neither a job nor a list of a dialect's names."""
        lists = [file.read_text() for file in self.config.folder.glob("*.json")]
        return self.inputs.prune(self.store.inputs().union(*map(find_inputs, lists)), UNUSED)

    async def drain(self) -> None:
        """Takes no more jobs, lets running ones end for a while, and sends those who still listen away."""
        self.draining = True
        until = time.monotonic() + self.config.drain
        while self.live.running and time.monotonic() < until:
            await asyncio.sleep(0.05)
        self.watchers.dismiss()

    async def close(self) -> None:
        """Stops, after `drain`; what is not finished is taken up at the next start."""
        await self.drain()
        for link in self.links:
            await link.stop()
        for one in self.live.running:  # nothing died: the next start draws them as if they had never begun
            await self._in_thread(self.store.queue_again, one.job.id, True)
        await self._read(self._reader.close)
        await self._in_thread(self.store.close)
        self._reading.shutdown()
        self._thread.shutdown()
        self._checks.shutdown(wait=False, cancel_futures=True)

    async def submit(
        self,
        request: JobRequest,
        *,
        user: str = "",
        dialect: str = "api",
        priority: int = 0,
        client: Mapping[str, Any] | None = None,
        key: str | None = None,
        body: str | None = None,
    ) -> Job:
        """Adds a job. `key` is the client's Idempotency-Key and `body` what it sent with it.

        Raises SfumatoError for a request that cannot be honoured, QueueFull, KeyConflict, and Stopping.
        """
        if self.draining:
            raise Stopping
        request = await self.checked(request)
        weight = await self._weight(request)
        if weight > self.config.pixels:
            limit = f"the limit here is {self.config.pixels:,}; ask for fewer or smaller pictures"
            raise SfumatoError(f"the request draws {weight:,} pixels; {limit}")
        if (waiting := len(self.live.waiting)) >= self.config.queue:
            raise QueueFull(waiting, self.live.seconds_for_room())
        job, new = await self._in_thread(
            lambda: self.store.add(
                request, user=user, dialect=dialect, priority=priority, client=client, key=key, body=body
            )
        )
        if new:
            self.counts["submitted"] += 1
            log.info("job queued", extra=self._told(job))
            self.live.add(job, weight)
            self.watchers.tell(JobEvent("queued", job.id))
            await self._dispatch()
        return job

    async def checked(self, request: JobRequest) -> JobRequest:
        """Returns the complete request. Raises SfumatoError for one that cannot be carried out."""
        return await self.in_background(self.desk.checked, request)

    async def in_background(self, work: Callable[Given, Result], *given: Given.args, **named: Given.kwargs) -> Result:
        """Runs a function in a thread, so that it does not block the event loop, and returns its result."""
        return await asyncio.get_running_loop().run_in_executor(self._checks, lambda: work(*given, **named))

    async def get(self, job: str) -> Job:
        """Returns the job with an id. Raises KeyError if there is none."""
        return await self._read(self._reader.get, job)

    async def is_drawn(self, file: str, user: str) -> bool:
        """Returns whether a file below the folder of outputs is a picture of a job of a user."""
        return await self._read(self._reader.is_drawn, file, user)

    async def latest(self, **which: Any) -> list[Job]:
        """Returns the newest jobs; see `Reader.latest`."""
        return await self._read(lambda: self._reader.latest(**which))

    @property
    def default_model(self) -> str:
        """The model of requests that name none."""
        return self.config.model or EMBEDDED

    async def cancel(self, job: str, user: str | None = None) -> bool:
        """Cancels a job and returns whether it was waiting or running. Finished pictures are kept."""
        return await self._end_early(job, State.CANCELLED, user)

    async def skip(self, job: str) -> bool:
        """Ends a job as done, with the pictures that it has; returns whether it was waiting or running."""
        return await self._end_early(job, State.DONE, None)

    async def forget(self, jobs: Sequence[str]) -> None:
        """Removes ended jobs from the database; the files of their pictures stay."""
        await self._in_thread(self.store.delete, [job for job in jobs if job not in self.live])

    async def retry(self, job: str) -> Job:
        """Queues a failed or cancelled job again. Raises KeyError if there is none, SfumatoError if it is another."""
        old = await self.get(job)
        if old.state not in (State.FAILED, State.CANCELLED):
            raise SfumatoError(f"the job is {old.state}; only one that failed or was cancelled can be tried again")
        await self._in_thread(self.store.queue_again, job, True)
        new = await self.get(job)
        self.live.add(new, await self._weight(new.request))
        self.watchers.tell(JobEvent("queued", job))
        await self._dispatch()
        return new

    async def finished(self, job: str) -> Job:
        """Waits until a job has ended and returns it. Raises KeyError if there is no such job, and Stopping."""
        async for _ in self.events(job):
            pass
        if not (found := await self.get(job)).state.ended:
            raise Stopping
        return found

    async def events(self, job: str | None = None) -> AsyncIterator[JobEvent]:
        """Yields events of a job until it ends, or of all jobs until the server stops; begins with the state now."""
        with self.watchers.watch(job) as events:
            if job is not None:
                found = await self.get(job)
                if found.state.ended:
                    yield JobEvent(found.state.value, job)
                    return
                one = self.live.get(job)
                if one is not None and one.link is not None:
                    yield JobEvent("started", job)
                    for picture in found.pictures:
                        yield JobEvent("picture", job, {"index": picture.index})
            while (event := await events.get()) is not None:
                yield event
                if job is not None and event.ends:
                    return

    async def command(self, message: Mapping[str, Any]) -> None:
        """Sends a command to all workers, such as {"do": "unload"}."""
        for link in self.links:
            await link.send(message)

    async def ask(self, what: str, said: Mapping[str, Any], model: str = EMBEDDED) -> dict[str, Any]:
        """Returns a worker's answer, see `worker.questions`. Raises SfumatoError for a bad question, and Unanswered."""
        free = [link for link in self.links if link.ready]
        if not free:
            raise Unanswered("no worker is ready; try again in some seconds")
        link = min(free, key=lambda one: (model not in one.models, one is not free[0]))
        question, answer = uuid.uuid4().hex, asyncio.get_running_loop().create_future()
        self._questions[question] = answer
        try:
            await link.send({"do": "answer", "question": question, "what": what, "model": model, "said": dict(said)})
            message = await asyncio.wait_for(answer, LONGEST_ANSWER)
        except TimeoutError:
            raise Unanswered("the worker is busy; try again in some seconds") from None
        finally:
            del self._questions[question]
        if "error" in message:
            raise SfumatoError(message["error"])
        return message["answer"]

    async def gallery(self, work: Callable[[Gallery], Result]) -> Result:
        """Runs a function of the gallery in the database's thread and returns its result."""
        return await self._in_thread(lambda: work(self.store.gallery))

    async def _dispatch(self) -> None:
        """Gives waiting jobs to workers until one finds no room: none that comes later may take its turn for ever."""
        async with self._dispatching:
            for one in () if self.draining else self.live.waiting:
                if one.link is not None:
                    continue
                if (link := self.live.worker_for(one)) is None:
                    break
                await self._give(one, link)

    async def _give(self, one: LiveJob, link: Link) -> None:
        self.live.give(one, link)
        await self._in_thread(self.store.start, one.job.id)
        one.job = await self.get(one.job.id)
        if one.cancelled is not None:
            return
        self.watchers.tell(JobEvent("started", one.job.id))
        request = one.job.request.to_json()
        done = len(one.job.pictures)
        await link.send({"do": "start", "job": one.job.id, "request": request, "done": done})

    async def _heard(self, link: Link, message: Mapping[str, Any], payload: bytes) -> None:
        said = message["say"]
        if said == "died":
            await self._worker_died(link)
        elif said == "answer":
            if (answer := self._questions.get(message["question"])) is not None and not answer.done():
                answer.set_result(message)
        elif said in ("ready", "models", "loading", "not loaded"):
            if said == "ready":
                await link.send({"do": "load", "model": self.default_model})
                await self._dispatch()
                self._look_around()
        elif (one := self.live.get(message["job"])) is not None and one.link is link:
            await self._job_said(one, said, message, payload)

    def _look_around(self) -> None:
        """Lists the models of this machine once in the background: it takes seconds, and no client should wait."""
        if self._looking is None:
            self._looking = asyncio.create_task(self.in_background(models))

    async def _job_said(self, one: LiveJob, said: str, message: Mapping[str, Any], payload: bytes) -> None:
        job = one.job.id
        match said:
            case "progress":
                one.steps[message["picture"]] = message["step"], message["steps"]
                one.preview = payload or one.preview
                told = {name: message[name] for name in ("picture", "step", "steps")}
                told |= {"progress": round(one.progress, 4), "seconds_left": self.live.seconds_left(job)}
                self.watchers.tell(JobEvent("progress", job, told, payload))
            case "picture":
                picture = SavedPicture(**message["picture"])
                await self._in_thread(self.store.picture, job, picture)
                self.counts["pictures"] += 1
                self.watchers.tell(JobEvent("picture", job, message["picture"]))
            case "report":
                self.watchers.tell(JobEvent("report", job, message["data"]))
            case "done":
                self.live.measure(one)
                await self._end(one, State.DONE, report=message["report"])
            case "failed":
                await self._end(one, State.FAILED, message["error"], message["bad_input"])

    async def _worker_died(self, link: Link) -> None:
        """Queues the jobs of a dead worker again; those during which a worker died too often fail."""
        for one in [one for one in self.live if one.link is link]:
            one.job = await self.get(one.job.id)
            if one.job.attempts >= MAX_STARTS["worker"]:
                await self._end(one, State.FAILED, TOO_OFTEN.format("worker", one.job.attempts))
                continue
            await self._in_thread(self.store.queue_again, one.job.id)
            self.live.take_back(one)
            self.watchers.tell(JobEvent("queued", one.job.id))
        await self._dispatch()

    async def _end_early(self, job: str, state: State, user: str | None) -> bool:
        one = self.live.get(job)
        if one is None or (user is not None and one.job.user != user) or one.cancelled is not None:
            return False
        one.cancelled = state
        if one.link is not None:
            await one.link.send({"do": "drop", "job": job})
        await self._end(one, state)
        return True

    async def _end(
        self, one: LiveJob, state: State, error: str | None = None, bad_input: bool = False,
        report: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.live.remove(one.job.id)
        self.counts[state.value] += 1
        log.info(f"job {state.value}", extra=self._told(one.job) | ({"error": error} if error else {}))
        await self._in_thread(self.store.finish, one.job.id, state, error, bad_input, report)
        self.watchers.tell(JobEvent(state.value, one.job.id, {"error": error} if error else {}))
        await self._dispatch()

    def _told(self, job: Job) -> dict[str, Any]:
        """Returns what the log says about a job."""
        told = {"job": job.id, "user": job.user, "dialect": job.dialect, "kind": job.request.kind}
        told["model"] = job.request.model
        return told | ({"prompt": job.request.prompt} if self.config.log_prompts else {})

    async def _weight(self, request: JobRequest) -> int:
        """Returns how many pixels a request draws; 1 if its model is gone, so that it fails when it starts."""
        with suppress(SfumatoError):
            return await self.in_background(self.desk.weight, request)
        return 1

    async def _in_thread(self, work: Callable[Given, Result], *given: Given.args, **named: Given.kwargs) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: work(*given, **named))

    async def _read(self, work: Callable[Given, Result], *given: Given.args, **named: Given.kwargs) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._reading, lambda: work(*given, **named))
