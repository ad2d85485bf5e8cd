"""The pictures of a job in motion."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Query
from fastapi.responses import Response

from sfumato.errors import SfumatoError
from sfumato.images.files import on_white
from sfumato.images.inputs import load_rgba
from sfumato.images.video import animated
from sfumato.server.dialects.base import QueueOf, UserOf
from sfumato.server.dialects.own import find

router = APIRouter()
MOST_PIXELS = 64 * 1024 * 1024  # of all pictures together, which are held in memory
TYPES = {"gif": "image/gif", "webp": "image/webp", "png": "image/apng"}


@router.get("/jobs/{job}/animation", response_class=Response)
async def animation(
    job: str, queue: QueueOf, user: UserOf, format: Literal["gif", "webp", "png"] = "webp",
    fps: Annotated[float, Query(ge=0.5, le=50)] = 5, back: bool = True,
) -> Response:  # fmt: skip
    """Get a job's pictures as an animation, `fps` a second, over and over; with `back` there and back again.

    They must be two or more, of one size.
    """
    found = await find(queue, job, user)
    if len(found.pictures) < 2:
        raise SfumatoError(f"the job has {len(found.pictures)} pictures; an animation takes two or more")
    if len({(one.width, one.height) for one in found.pictures}) > 1:
        raise SfumatoError("the pictures are of several sizes; an animation takes pictures of one size")
    pixels = sum(one.width * one.height for one in found.pictures)
    if pixels > MOST_PIXELS:
        raise SfumatoError(f"the pictures have {pixels:,} pixels together; an animation takes at most {MOST_PIXELS:,}")
    files = [queue.config.outputs / one.file for one in sorted(found.pictures, key=lambda one: one.index)]
    try:
        content = await queue.in_background(_animated, files, "." + format, fps, back)
    except FileNotFoundError:
        raise HTTPException(404, "the file of a picture is gone") from None
    headers = {"Content-Disposition": f'attachment; filename="{found.id[:8]}.{format}"'}
    return Response(content, media_type=TYPES[format], headers=headers)


def _animated(files: list[Path], suffix: str, fps: float, back: bool) -> bytes:
    frames = [on_white(load_rgba(file)) for file in files]
    return animated([*frames, *(frames[-2:0:-1] if back else ())], suffix, fps)
