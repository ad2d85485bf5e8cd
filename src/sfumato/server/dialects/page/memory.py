"""What memory models take."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from sfumato.errors import SfumatoError
from sfumato.hub.local_models import EMBEDDED, locate
from sfumato.loading.memory import MemoryPlan, memory_plan
from sfumato.server.composite import Composite
from sfumato.server.dialects.base import QueueOf
from sfumato.server.jobs.job import JobRequest

router = APIRouter()


class PlanView(BaseModel):
    """A model's memory in bytes, counted without loading it.

    `weights` are those of each of its networks, `loading` and `drawing` the peaks of loading it, and of drawing one
    picture of `width` x `height` with all networks in memory.
    """

    title: str
    dtype: str
    file: int | None
    weights: dict[str, int]
    width: int
    height: int
    step: int
    decode: int
    loading: int
    drawing: int


@router.get("/memory")
async def get_memory(
    queue: QueueOf, model: str = EMBEDDED, dtype: Literal["float32", "float16", "bfloat16"] | None = None
) -> PlanView:
    """Say what memory a model takes, in a precision; by default in that of this server."""
    if Composite.of(model).further:
        raise SfumatoError("memory is counted for a model as its file is; give a model's name alone")
    await queue.checked(JobRequest(model=model))
    kind = dtype or queue.config.dtype or "float32"

    def plan() -> MemoryPlan:
        path, _ = locate(model)
        return _plan(path, kind, path.stat().st_mtime_ns)

    found = (await queue.in_background(plan)).record()
    return PlanView(**{name: found[name] for name in PlanView.model_fields})


@lru_cache(maxsize=64)
def _plan(path: Path, dtype: str, changed: int) -> MemoryPlan:
    """`changed` makes a file that was replaced another one."""
    return memory_plan(path, dtype)
