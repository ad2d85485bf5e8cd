"""The web socket that tells how graphs go on: texts in JSON, and previews as bytes."""

from __future__ import annotations

import asyncio
import json
import struct
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from sfumato.server.dialects.base import QueueOf, UserOf
from sfumato.server.dialects.comfyui.facts import FEATURES
from sfumato.server.dialects.comfyui.history import failure, outputs_of
from sfumato.server.dialects.comfyui.prompts import NAME, unfinished
from sfumato.server.jobs.job import Job, State
from sfumato.server.queue import Queue
from sfumato.server.watchers import JobEvent

router = APIRouter()
_HEAD = struct.Struct(">II")
PREVIEW, JPEG = 1, 1
COUNTS = ("queued", "started", *(state.value for state in State if state.ended))


@dataclass
class _Watched:
    """A graph that someone watches: the node at work, those that are done, and the steps that were told last."""

    mine: bool
    types: dict[str, str] = field(default_factory=dict)
    node: str | None = None
    executed: list[str] = field(default_factory=list)


class Watch:
    """Makes messages of what happens to the graphs of one client."""

    def __init__(self, queue: Queue, user: str, client: str):
        self.queue, self.user, self.client = queue, user, client
        self._watched: dict[str, _Watched] = {}

    def status(self) -> dict[str, Any]:
        """How many graphs are not finished."""
        return {"status": {"exec_info": {"queue_remaining": len(unfinished(self.queue))}}}

    async def told(self, event: JobEvent) -> list[str | bytes]:
        """The messages of an event, those of other clients' graphs left out."""
        messages: list[tuple[str, dict[str, Any]]] = []
        if event.what in COUNTS:
            messages.append(("status", self.status()))
        watched = self._watched.get(event.job)
        job: Job | None = None
        if watched is None or event.what == "report":
            try:
                job = await self.queue.get(event.job)
            except KeyError:
                return [_text(*one) for one in messages]
            watched = self._watched.setdefault(event.job, self._watch(job))
        if watched.mine:
            messages += self._of(event, watched, job)
        if event.what in COUNTS[2:]:
            self._watched.pop(event.job, None)
        result: list[str | bytes] = [_text(*one) for one in messages]
        if watched.mine and event.preview:
            result.append(_HEAD.pack(PREVIEW, JPEG) + event.preview)
        return result

    def _watch(self, job: Job) -> _Watched:
        mine = job.dialect == NAME and job.user == self.user and job.client.get("client_id") in (None, self.client)
        graph = job.client.get("prompt", {}) if mine else {}
        types = {str(key): str(one.get("class_type")) for key, one in graph.items() if isinstance(one, dict)}
        return _Watched(mine, types)

    def _of(self, event: JobEvent, watched: _Watched, job: Job | None) -> Iterator[tuple[str, dict[str, Any]]]:
        base: dict[str, Any] = {"prompt_id": event.job}
        now = {"timestamp": round(1000 * time.time())}
        match event.what:
            case "started":
                watched.node, watched.executed = None, []
                yield "execution_start", {**base, **now}
            case "report":
                yield from self._report(event.data, watched, job, {**base, **now})
            case "progress":
                step = {"value": event.data["step"], "max": event.data["steps"]}
                yield "progress", {**step, **base, "node": watched.node}
                if watched.node is not None:
                    yield "progress_state", {**base, "nodes": {watched.node: _state(watched.node, event.job, step)}}
            case State.DONE:
                yield "execution_success", {**base, **now}
                yield "executing", {"node": None, **base}
            case State.CANCELLED:
                yield "execution_interrupted", {**base, **now, **self._node(watched)}
                yield "executing", {"node": None, **base}
            case State.FAILED:
                why = failure(str(event.data.get("error", "")))
                yield "execution_error", {**base, **now, **self._node(watched), **why}
                yield "executing", {"node": None, **base}

    def _report(
        self, data: Any, watched: _Watched, job: Job | None, base: dict[str, Any]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        prompt = {"prompt_id": base["prompt_id"]}
        if "cached" in data:
            watched.executed += data["cached"]
            yield "execution_cached", {"nodes": data["cached"], **base}
        elif "executing" in data:
            if watched.node is not None:
                watched.executed.append(watched.node)
            watched.node = data["executing"]
            yield "executing", {"node": watched.node, "display_node": watched.node, **prompt}
        elif "executed" in data and job is not None:
            node = data["executed"]
            yield "executed", {"node": node, "display_node": node, "output": outputs_of(job, data), **prompt}

    def _node(self, watched: _Watched) -> dict[str, Any]:
        kind = None if watched.node is None else watched.types.get(watched.node)
        return {"node_id": watched.node, "node_type": kind, "executed": watched.executed}


def _state(node: str, job: str, step: dict[str, Any]) -> dict[str, Any]:
    return {
        **step, "state": "running", "node_id": node, "prompt_id": job, "display_node_id": node,
        "parent_node_id": None, "real_node_id": node,
    }  # fmt: skip


def _text(kind: str, data: dict[str, Any]) -> str:
    return json.dumps({"type": kind, "data": data})


@router.websocket("/ws")
async def follow(socket: WebSocket, queue: QueueOf, user: UserOf) -> None:
    """Send the events of the graphs of the client `clientId`."""
    await socket.accept()
    client = socket.query_params.get("clientId") or uuid.uuid4().hex
    watch = Watch(queue, user, client)
    events = queue.events()

    async def tell() -> None:
        async for event in events:
            for message in await watch.told(event):
                await (socket.send_text(message) if isinstance(message, str) else socket.send_bytes(message))

    telling = asyncio.create_task(tell())
    try:
        await socket.send_text(_text("status", {**watch.status(), "sid": client}))
        await _listen(socket)
    except (WebSocketDisconnect, RuntimeError):
        pass
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)


async def _listen(socket: WebSocket) -> None:
    """Answers what the client asks, until it leaves."""
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        try:
            said = json.loads(message.get("text") or "null")
        except (ValueError, RecursionError):
            continue
        if isinstance(said, dict) and said.get("type") == "feature_flags":
            await socket.send_text(_text("feature_flags", dict(FEATURES)))
