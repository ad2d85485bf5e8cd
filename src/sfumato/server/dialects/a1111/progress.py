"""How far a call is, and its end before its time."""

from __future__ import annotations

import base64
import time
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from sfumato.server.dialects.a1111.calls import Call
from sfumato.server.dialects.a1111.replies import timestamp
from sfumato.server.dialects.a1111.state import A1111, StateOf
from sfumato.server.dialects.base import UserOf

LEAST = 0.01  # of a call that waits still, since clients take 0 for idle
router = APIRouter(prefix="/sdapi/v1", tags=["a1111"])
internal = APIRouter(prefix="/internal", tags=["a1111"])


class ProgressReply(BaseModel):
    """`progress` is a share, `eta_relative` seconds, `current_image` a JPEG in base64."""

    progress: float
    eta_relative: float
    state: dict[str, Any]
    current_image: str | None = None
    textinfo: str | None = None


@router.get("/progress")
async def progress(state: StateOf, user: UserOf, skip_current_image: bool = False) -> ProgressReply:
    """Get the progress of the user's oldest call that is not finished; 0 if there is none."""
    call = state.calls.current(user)
    if call is None:
        return ProgressReply(progress=0.0, eta_relative=0.0, state=_told(None, (0, 0)))
    share, steps, preview, left = _standing(state, call)
    image = base64.b64encode(preview).decode() if preview and not skip_current_image else None
    return ProgressReply(progress=share, eta_relative=left, state=_told(call, steps), current_image=image)


@router.post("/interrupt")
async def interrupt(state: StateOf, user: UserOf) -> dict[str, Any]:
    """End the user's oldest call; its reply has the finished pictures."""
    if (call := state.calls.current(user)) is not None:
        await state.calls.stop(call)
    return {}


@router.post("/skip")
async def skip(state: StateOf, user: UserOf) -> None:
    """End the current batch of the user's oldest call; its other batches go on."""
    if (call := state.calls.current(user)) is not None:
        await state.calls.skip(call)


class TaskQuestion(BaseModel):
    id_task: str | None = None
    id_live_preview: int | None = -1
    live_preview: bool | None = True


class TaskReply(BaseModel):
    active: bool
    queued: bool
    completed: bool
    progress: float | None = None
    eta: float | None = None
    live_preview: str | None = None
    id_live_preview: int | None = None
    textinfo: str | None = None


@internal.post("/progress")
async def task_progress(asked: TaskQuestion, state: StateOf, user: UserOf) -> TaskReply:
    """How far the call is that came with this `force_task_id`."""
    call = state.calls.named(user, asked.id_task or "")
    if call is None:
        return TaskReply(active=False, queued=False, completed=True, textinfo="Done")
    running = {one.job.id for one in state.queue.live.running}
    if not running.intersection(call.jobs):
        return TaskReply(active=False, queued=True, completed=False, textinfo="In queue...")
    share, (step, _), preview, left = _standing(state, call)
    shown = asked.live_preview is not False and preview and step != asked.id_live_preview
    image = "data:image/jpeg;base64," + base64.b64encode(preview).decode() if shown else None
    return TaskReply(
        active=True, queued=False, completed=False, progress=share, eta=left, live_preview=image, id_live_preview=step
    )


@internal.get("/pending-tasks")
async def pending(state: StateOf, user: UserOf) -> dict[str, Any]:
    """The calls that came with a `force_task_id` and wait."""
    names = state.calls.names(user)
    return {"size": len(names), "tasks": names}


@internal.get("/ping")
async def ping() -> dict[str, Any]:
    """Whether the server answers."""
    return {}


def _standing(state: A1111, call: Call) -> tuple[float, tuple[int, int], bytes, float]:
    """The share that is done, the step of the job that is drawn and all of its steps, its preview, seconds left."""
    live = [one for job in call.jobs if (one := state.queue.live.get(job)) is not None]
    running = [one for one in live if one.link is not None]
    share = (call.ended + sum(one.progress for one in running)) / call.total
    steps = max(running[0].steps.values(), default=(0, 0)) if running else (0, 0)
    known = [left for one in live if (left := state.queue.live.seconds_left(one.job.id)) is not None]
    spent = time.time() - call.began
    left = max(known) if known else spent / max(share, LEAST) - spent
    return min(1.0, max(LEAST, share)), steps, running[0].preview if running else b"", max(0.0, left)


def _told(call: Call | None, steps: tuple[int, int]) -> dict[str, Any]:
    """The state as the web UI tells it."""
    if call is None:
        job, count, number, began = "", 0, 0, "0"
    else:
        job, count, number = f"Batch {call.ended + 1} out of {call.total}", call.total, call.ended
        began = timestamp(call.began)
    stopped = call is not None and call.stopped
    return {
        "skipped": False, "interrupted": stopped, "stopping_generation": stopped, "job": job, "job_count": count,
        "job_timestamp": began, "job_no": number, "sampling_step": steps[0], "sampling_steps": steps[1],
    }  # fmt: skip
