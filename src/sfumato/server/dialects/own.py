"""sfumato's own API: jobs, their events and pictures, and models."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Header, HTTPException, Query, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from sfumato.errors import SfumatoError
from sfumato.hub.local_models import models
from sfumato.server.dialects.base import Dialect, QueueOf, UserOf, Whole
from sfumato.server.jobs.job import Job, JobRequest, State
from sfumato.server.queue import Queue
from sfumato.server.watchers import JobEvent

BEAT = 15.0  # seconds without an event, after which a sign of life is sent
router = APIRouter(prefix="/api", tags=["sfumato"])


class NewJob(BaseModel):
    """A request for pictures."""

    model_config = ConfigDict(extra="forbid")
    kind: str = Field("txt2img", description="A task such as txt2img, or enlarge, hint, compress, interrogate.")
    model: str | None = Field(None, description="A model on the server's machine; by default the server's own.")
    prompt: str = ""
    negative: str = ""
    options: dict[str, Any] = Field(default_factory=dict, description="Keywords of sd.txt2img: steps, cfg, seed, n ...")
    how: dict[str, Any] = Field(default_factory=dict, description="Options of this kind alone, such as strength.")
    pictures: dict[str, str] = Field(
        default_factory=dict, description="Input pictures (image, mask ...): base64, or names from /api/pictures."
    )
    refiner: str | None = None
    priority: int = Field(0, ge=-10, le=10)


class PictureView(BaseModel):
    index: int
    url: str
    seed: int
    infotext: str
    width: int
    height: int
    score: float | None


class FrameView(BaseModel):
    """A step of a picture: its preview as a data URL, and where the picture attended to which word."""

    step: int
    preview: str
    attention: dict[str, Any] | None


class JobView(BaseModel):
    """The state of a job. Times are seconds since 1970; `progress` is from 0 to 1, `seconds_left` an estimate."""

    id: str
    number: int
    state: State
    kind: str
    dialect: str
    request: dict[str, Any]
    priority: int
    created: float
    started: float | None
    finished: float | None
    error: str | None
    position: int | None
    progress: float
    seconds_left: float | None
    pictures: list[PictureView]
    report: dict[str, Any]


def view(queue: Queue, job: Job) -> JobView:
    """Returns the job as this API shows it."""
    live = queue.live.get(job.id)
    done = 1.0 if job.state is State.DONE else 0.0
    return JobView(
        id=job.id, number=job.number, state=job.state, kind=job.request.kind, dialect=job.dialect,
        request=job.request.to_json(), priority=job.priority, created=job.created, started=job.started,
        finished=job.finished, error=job.error, position=queue.live.position(job.id),
        progress=done if live is None else live.progress, seconds_left=queue.live.seconds_left(job.id),
        pictures=[PictureView(url=f"/api/jobs/{job.id}/pictures/{one.index}", index=one.index, seed=one.seed,
                              infotext=one.infotext, width=one.width, height=one.height, score=one.score)
                  for one in job.pictures],
        report=dict(job.report),
    )  # fmt: skip


@router.post("/jobs", status_code=201)
async def add_job(
    new: NewJob, queue: QueueOf, user: UserOf, idempotency_key: Annotated[str | None, Header(max_length=255)] = None
) -> JobView:
    """Ask for pictures. The reply comes at once; /api/jobs/{id}/events then sends the job's events."""
    given = new.model_dump(exclude={"priority"})
    given["model"] = new.model or queue.default_model
    given["pictures"] = {name: await kept(queue, text, name) for name, text in new.pictures.items()}
    body = hashlib.sha256(json.dumps(new.model_dump(), sort_keys=True).encode()).hexdigest()
    job = await queue.submit(
        JobRequest(**given), user=user, dialect="api", priority=new.priority, key=idempotency_key, body=body
    )
    return view(queue, job)


@router.get("/jobs")
async def list_jobs(
    queue: QueueOf,
    user: UserOf,
    count: Annotated[int, Query(ge=1, le=500)] = 50,
    before: Whole | None = None,
    state: Annotated[list[State] | None, Query()] = None,
) -> list[JobView]:
    """List jobs, newest first."""
    states = [one.value for one in state or ()]
    return [view(queue, job) for job in await queue.latest(count=count, before=before, user=user, states=states)]


async def find(queue: Queue, job: str, user: str) -> Job:
    """Returns a job of a user. Raises HTTPException 404 if that user has no job of this id."""
    try:
        found = await queue.get(job)
    except KeyError:
        found = None
    if found is None or found.user != user:
        raise HTTPException(404, f"there is no job {job[:64]!r}")
    return found


@router.get("/films")
async def list_films(queue: QueueOf, user: UserOf, count: Annotated[int, Query(ge=1, le=100)] = 20) -> list[JobView]:
    """List the newest jobs whose steps were kept, which are those that asked for attention."""
    found: list[JobView] = []
    for name in await queue.in_background(queue.films.jobs):
        with suppress(HTTPException):
            found.append(view(queue, await find(queue, name, user)))
        if len(found) == count:
            break
    return found


@router.get("/jobs/{job}/frames")
async def get_frames(job: str, queue: QueueOf, user: UserOf) -> list[FrameView]:
    """Get the steps of a job's first picture; none unless the job asked for attention and has ended."""
    found = await find(queue, job, user)
    return [FrameView(**one) for one in await queue.in_background(queue.films.frames, found.id)]


@router.get("/jobs/{job}")
async def get_job(job: str, queue: QueueOf, user: UserOf) -> JobView:
    """Get the state of a job."""
    return view(queue, await find(queue, job, user))


@router.post("/jobs/{job}/cancel")
async def cancel_job(job: str, queue: QueueOf, user: UserOf) -> JobView:
    """Cancel a job; its finished pictures are kept."""
    await find(queue, job, user)
    await queue.cancel(job)
    return view(queue, await queue.get(job))


@router.post("/jobs/{job}/skip")
async def skip_job(job: str, queue: QueueOf, user: UserOf) -> JobView:
    """End a job as done, with the pictures that it has."""
    await find(queue, job, user)
    await queue.skip(job)
    return view(queue, await queue.get(job))


@router.post("/jobs/{job}/retry")
async def retry_job(job: str, queue: QueueOf, user: UserOf) -> JobView:
    """Queue a failed or cancelled job again."""
    await find(queue, job, user)
    return view(queue, await queue.retry(job))


@router.get("/jobs/{job}/pictures/{index}", response_class=FileResponse)
async def get_picture(job: str, index: int, queue: QueueOf, user: UserOf) -> FileResponse:
    """Get a finished picture; its settings are in the file."""
    found = await find(queue, job, user)
    picture = next((one for one in found.pictures if one.index == index), None)
    if picture is None or not (path := queue.config.outputs / picture.file).is_file():
        raise HTTPException(404, f"job {job} has no picture {index}")
    return FileResponse(path, media_type="image/png")


@router.get("/jobs/{job}/preview", response_class=Response)
async def get_preview(job: str, queue: QueueOf, user: UserOf) -> Response:
    """Get the last preview of a running job, as JPEG; 404 if there is none."""
    await find(queue, job, user)
    live = queue.live.get(job)
    if live is None or not live.preview:
        raise HTTPException(404, "there is no preview now")
    return Response(live.preview, media_type="image/jpeg", headers={"Cache-Control": "no-store"})


def _said(event: JobEvent) -> dict[str, Any]:
    data: dict[str, Any] = {"event": event.what, "job": event.job, **event.data}
    if event.preview:
        data["preview"] = "data:image/jpeg;base64," + base64.b64encode(event.preview).decode()
    return data


@router.get("/jobs/{job}/events", response_class=StreamingResponse)
async def follow_job(job: str, queue: QueueOf, user: UserOf) -> StreamingResponse:
    """Follow a job: its events, as server-sent events, until it ends."""
    await find(queue, job, user)

    async def stream() -> AsyncIterator[str]:
        async for event in with_beats(queue.events(job)):
            yield ": still here\n\n" if event is None else f"event: {event.what}\ndata: {json.dumps(_said(event))}\n\n"

    return StreamingResponse(stream(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


@router.websocket("/ws")
async def follow_all(socket: WebSocket, queue: QueueOf, user: UserOf) -> None:
    """Sends the events of all jobs of a user."""
    await socket.accept()
    telling = asyncio.create_task(_tell_all(socket, queue, user))
    try:
        while True:  # who listens says nothing; this hears that they left
            await socket.receive_text()
    except WebSocketDisconnect:
        pass
    finally:
        telling.cancel()


async def _tell_all(socket: WebSocket, queue: Queue, user: str) -> None:
    owners: dict[str, bool] = {}
    with suppress(WebSocketDisconnect, RuntimeError):  # it was closed meanwhile
        async for event in queue.events():
            if event.job not in owners:
                owners[event.job] = (await queue.get(event.job)).user == user
            if owners[event.job]:
                await socket.send_json(_said(event))
        await socket.close(1012)  # the server is about to stop


async def with_beats(events: AsyncIterator[JobEvent]) -> AsyncIterator[JobEvent | None]:
    """Yields the events, and None after BEAT seconds without one, so that the connection does not time out."""
    following: asyncio.Future[JobEvent] | None = None
    try:
        while True:
            following = following or asyncio.ensure_future(anext(events))
            done, _ = await asyncio.wait((following,), timeout=BEAT)
            if not done:
                yield None
                continue
            try:
                event = following.result()
            except StopAsyncIteration:
                return
            following = None
            yield event
    finally:
        if following is not None:
            following.cancel()


class NamedPicture(BaseModel):
    name: str


class SentPicture(BaseModel):
    picture: str = Field(description="A picture's file in base64, or a data: URL.")


@router.post("/pictures", status_code=201)
async def add_picture(sent: SentPicture, queue: QueueOf) -> NamedPicture:
    """Send a picture once; jobs can then use it by the name in the reply."""
    return NamedPicture(name=await kept(queue, sent.picture, "picture"))


async def kept(queue: Queue, text: str, what: str) -> str:
    """Keeps a picture given in base64 and returns its name; returns a name as it is. Raises SfumatoError for others."""
    if text.startswith("input:"):
        queue.inputs.path(text)
        return text
    return await queue.in_background(queue.inputs.add, decoded(text, what), what)


def decoded(text: str, what: str) -> bytes:
    """Returns the bytes of base64, with or without the head of a data: URL. Raises SfumatoError for other text."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise SfumatoError(f"{what} is no base64; send the bytes of a PNG, JPEG or WebP file in base64") from None


class ModelView(BaseModel):
    name: str
    what: str
    family: str | None
    kind: str
    licence: str | None
    size: int | None
    loaded: bool


@router.get("/models")
async def list_models(queue: QueueOf) -> list[ModelView]:
    """List the models on the server's machine."""
    loaded = {name for link in queue.links for name in link.models}
    here = await queue.in_background(models)
    return [
        ModelView(name=one.name, what=one.what, family=one.family, kind=one.kind, licence=one.licence, size=one.size,
                  loaded=one.name in loaded)
        for one in here if one.path is not None
    ]  # fmt: skip


OWN = Dialect("api", router, ("/api/",), lambda status, message: {"error": message})
