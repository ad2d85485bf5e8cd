"""Graphs queued, watched, stopped, and what became of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from sfumato.errors import SfumatoError
from sfumato.images.files import PNG_KEY
from sfumato.server.dialects.base import QueueOf, UserOf
from sfumato.server.dialects.comfyui.faults import fault, node_errors, problem_of, refused
from sfumato.server.dialects.comfyui.history import entry, queued
from sfumato.server.dialects.comfyui.uploads import Uploads, marked
from sfumato.server.jobs.job import Job, JobRequest, State
from sfumato.server.kinds.graph.check import GraphError, planned
from sfumato.server.kinds.graph.table import NODES, Sent
from sfumato.server.queue import Queue

NAME = "comfyui"
MOST_TEXT = 4 << 20  # characters of all that a client has written into a picture's file
MOST_KEYWORD = 80  # characters that a keyword of a PNG file must not reach
MOST_JOBS = 200  # of a history that says no number
router = APIRouter()


class NewPrompt(BaseModel):
    """A graph in the API format, and who is told how it goes on."""

    prompt: dict[str, Any]
    client_id: str | None = Field(None, max_length=255)
    extra_data: dict[str, Any] = Field(default_factory=dict)
    front: bool = False
    partial_execution_targets: list[str] | None = None


class Ids(BaseModel):
    """Which graphs are meant: some, or all."""

    delete: list[str] = Field(default_factory=list)
    clear: bool = False


class Which(BaseModel):
    """Which graph is meant; None is the one at work."""

    prompt_id: str | None = None


@router.post("/prompt")
async def add_prompt(new: NewPrompt, queue: QueueOf, user: UserOf) -> Response:
    """Queue a graph. The reply comes at once; the web socket and /history show its progress and result."""
    if (problem := problem_of(new.model_dump())) is not None:
        return JSONResponse({"error": fault(problem), "node_errors": {}}, 400)
    graph = await with_pictures(queue, user, new.prompt)
    try:
        plan = await queue.in_background(planned, graph, new.partial_execution_targets)
    except GraphError as error:
        return JSONResponse(refused(error, new.prompt), 400)
    how = {"graph": graph, "targets": list(plan.ends), "texts": _texts(new)}
    client = {
        "client_id": new.client_id, "prompt": new.prompt, "extra_data": new.extra_data, "outputs": list(plan.ends)
    }  # fmt: skip
    try:
        job = await queue.submit(
            JobRequest(kind="graph", how=how), user=user, dialect=NAME, client=client, priority=int(new.front)
        )
    except GraphError as error:
        return JSONResponse(refused(error, new.prompt), 400)
    errors = node_errors(plan.problems, plan.lost, new.prompt)
    return JSONResponse({"prompt_id": job.id, "number": job.number, "node_errors": errors})


def _texts(new: NewPrompt) -> dict[str, str]:
    """What is written into the pictures' files, as ComfyUI does: the graph, and what the client wants to have there.

    Raises SfumatoError for texts that are too long.
    """
    further = new.extra_data.get("extra_pnginfo")
    given = {"prompt": new.prompt, **(further if isinstance(further, dict) else {})}
    texts = {
        name: json.dumps(value) for name, value in given.items()
        if name != PNG_KEY and 0 < len(name) < MOST_KEYWORD and name.isascii() and name.isprintable()
    }  # fmt: skip
    if (size := sum(map(len, texts.values()))) > MOST_TEXT:
        raise SfumatoError(f"prompt and extra_pnginfo have {size:,} characters; send at most {MOST_TEXT:,}")
    return texts


async def with_pictures(queue: Queue, user: str, graph: dict[str, Any]) -> dict[str, Any]:
    """The graph with the pictures themselves in place of the names that clients gave them."""
    result = dict(graph)
    for key, one in graph.items():
        node = NODES.get(str(one.get("class_type"))) if isinstance(one, dict) else None
        inputs = one.get("inputs") if isinstance(one, dict) else None
        if node is None or not isinstance(inputs, dict):
            continue
        changed = {
            name: found
            for name, given in node.inputs.items()
            if isinstance(given.widget, Sent) and (found := await _sent(queue, user, inputs.get(name)))
        }
        if changed:
            result[key] = {**one, "inputs": {**inputs, **changed}}
    return result


async def _sent(queue: Queue, user: str, value: Any) -> str | None:
    """The picture of a name, sent by the user or drawn for them; None where there is none."""
    if not isinstance(value, str):
        return None
    name, kind = marked(value)
    found = await queue.in_background(Uploads(queue.config.folder).find, user, kind, name.replace("\\", "/"))
    if found is None and kind != "input" and (path := await drawn_file(queue, user, name)) is not None:
        found = await queue.in_background(lambda: queue.inputs.add(path.read_bytes()))
    return found


async def drawn_file(queue: Queue, user: str, name: str) -> Path | None:
    """The file of a picture that was drawn for a user, by its name with its folder; None where there is none."""
    if not await queue.is_drawn(name, user):
        return None
    path = queue.config.outputs / name
    return path if path.is_file() else None


async def jobs_of(queue: Queue, user: str, count: int, ended: bool = True) -> list[Job]:
    """The newest graphs of a user, newest first."""
    states = [one.value for one in State if one.ended == ended]
    found: list[Job] = []
    before = None
    while len(found) < count:
        part = await queue.latest(count=500, before=before, user=user, states=states)
        found += [job for job in part if job.dialect == NAME]
        if len(part) < 500:
            break
        before = part[-1].number
    return found[:count]


@router.get("/prompt")
async def remaining(queue: QueueOf, user: UserOf) -> dict[str, Any]:
    """Get the number of graphs that are not finished."""
    return {"exec_info": {"queue_remaining": len(unfinished(queue))}}


def unfinished(queue: Queue) -> list[Job]:
    """The graphs that wait or are worked on."""
    every = [*queue.live.running, *queue.live.waiting]
    return [one.job for one in every if one.job.dialect == NAME]


@router.get("/queue")
async def show_queue(queue: QueueOf, user: UserOf) -> dict[str, Any]:
    """List running and waiting graphs."""
    lists = {"queue_running": queue.live.running, "queue_pending": queue.live.waiting}
    return {
        name: [queued(one.job) for one in several if one.job.dialect == NAME and one.job.user == user]
        for name, several in lists.items()
    }


@router.post("/queue", response_class=Response)
async def change_queue(which: Ids, queue: QueueOf, user: UserOf) -> Response:
    """Remove waiting graphs from the queue."""
    waiting = [one.job for one in queue.live.waiting if one.job.dialect == NAME and one.job.user == user]
    for job in waiting:
        if which.clear or job.id in which.delete:
            await queue.cancel(job.id, user)
            await queue.forget([job.id])
    return Response()


@router.get("/history")
async def show_history(
    queue: QueueOf, user: UserOf, max_items: Annotated[int, Query(ge=-1, le=100_000)] = MOST_JOBS,
    offset: Annotated[int, Query(ge=-1, le=100_000)] = 0,
) -> dict[str, Any]:  # fmt: skip
    """List the results of finished graphs, oldest first."""
    count = MOST_JOBS if max_items < 0 else max_items
    jobs = await jobs_of(queue, user, count + max(0, offset))
    return {job.id: entry(job) for job in reversed(jobs[max(0, offset) :])}


@router.get("/history/{prompt_id}")
async def show_one(prompt_id: str, queue: QueueOf, user: UserOf) -> dict[str, Any]:
    """Get the result of a graph; an empty object until it has ended."""
    try:
        job = await queue.get(prompt_id)
    except KeyError:
        return {}
    return {job.id: entry(job)} if job.state.ended and (job.user, job.dialect) == (user, NAME) else {}


@router.post("/history", response_class=Response)
async def change_history(which: Ids, queue: QueueOf, user: UserOf) -> Response:
    """Remove finished graphs from the history; the files of their pictures stay."""
    jobs = await jobs_of(queue, user, 100_000)
    await queue.forget([job.id for job in jobs if which.clear or job.id in which.delete])
    return Response()


@router.post("/interrupt", response_class=Response)
async def interrupt(queue: QueueOf, user: UserOf, which: Annotated[Which | None, Body()] = None) -> Response:
    """Stop the running graph, or the named one if it is running."""
    named = None if which is None else which.prompt_id
    running = [one.job for one in queue.live.running if one.job.dialect == NAME and one.job.user == user]
    job = next((job for job in running if named in (None, job.id)), None)
    if job is not None:
        await queue.cancel(job.id, user)
    return Response()


class Freed(BaseModel):
    """What is to be let go of."""

    unload_models: bool = False
    free_memory: bool = False


@router.post("/free", response_class=Response)
async def free(what: Freed, queue: QueueOf, user: UserOf) -> Response:
    """Unload models that no job uses, and clear the cached results of nodes."""
    if what.unload_models or what.free_memory:
        await queue.command({"do": "unload"})
    return Response()
