"""Jobs as ComfyUI shows them."""

from __future__ import annotations

from typing import Any

from sfumato.server.jobs.job import Job, SavedPicture, State


def queued(job: Job) -> list[Any]:
    """A graph as it stands in the queue."""
    client = job.client
    return [job.number, job.id, client.get("prompt", {}), client.get("extra_data", {}), client.get("outputs", [])]


def image_of(picture: SavedPicture, kind: str) -> dict[str, str]:
    """A picture by the names that /view takes."""
    folder, _, name = picture.file.rpartition("/")
    return {"filename": name, "subfolder": folder, "type": kind}


def outputs_of(job: Job, shown: dict[str, Any]) -> dict[str, Any]:
    """What a node showed, of what its report says of it."""
    first, end = shown.get("pictures", (0, 0))
    kind = shown.get("kind", "output")
    return {"images": [image_of(one, kind) for one in job.pictures if first <= one.index < end]}


def entry(job: Job) -> dict[str, Any]:
    """What became of a graph."""
    outputs = {node: outputs_of(job, shown) for node, shown in job.report.get("outputs", {}).items()}
    if not outputs and job.pictures and job.client.get("outputs"):  # it ended early, with what it had
        whole = {"pictures": (0, len(job.pictures))}
        outputs = {job.client["outputs"][0]: outputs_of(job, whole)}
    meta = {
        node: {"node_id": node, "display_node": node, "parent_node": None, "real_node_id": node} for node in outputs
    }
    return {
        "prompt": queued(job), "outputs": outputs, "meta": meta,
        "status": {
            "status_str": "success" if job.state is State.DONE else "error", "completed": job.state is State.DONE,
            "messages": messages(job),
        },
    }  # fmt: skip


def messages(job: Job) -> list[list[Any]]:
    """What the web socket told of a graph that is ended."""

    def at(seconds: float | None) -> int:
        return round(1000 * (seconds or job.created))

    start = ["execution_start", {"prompt_id": job.id, "timestamp": at(job.started)}]
    end = {"prompt_id": job.id, "timestamp": at(job.finished)}
    match job.state:
        case State.DONE:
            return [start, ["execution_success", end]]
        case State.CANCELLED:
            return [start, ["execution_interrupted", {**end, **no_node()}]]
    return [start, ["execution_error", {**end, **no_node(), **failure(job.error or "")}]]


def no_node() -> dict[str, Any]:
    """The fields that name a node, where none is known."""
    return {"node_id": None, "node_type": None, "executed": []}


def failure(text: str) -> dict[str, Any]:
    """The fields that say why a graph failed."""
    return {
        "exception_message": text, "exception_type": "SfumatoError", "traceback": [], "current_inputs": {},
        "current_outputs": [],
    }  # fmt: skip
