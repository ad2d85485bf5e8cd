"""The addresses of OpenAI's images API."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Header, HTTPException, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from sfumato.errors import SfumatoError
from sfumato.hub.local_models import models
from sfumato.images.inputs import load_image
from sfumato.server.dialects.base import QueueOf, UserOf
from sfumato.server.dialects.openai.bodies import (
    Asked,
    Drawn,
    Edit,
    Generation,
    Variation,
    form_schema,
    read_file,
    read_form,
)
from sfumato.server.dialects.openai.errors import error
from sfumato.server.dialects.openai.replies import Wanted, address, finished, in_base64, is_good, picture_file
from sfumato.server.dialects.openai.requests import THEIRS, change, generation, size_of
from sfumato.server.jobs.job import Job, JobRequest
from sfumato.server.queue import Queue

router = APIRouter(prefix="/v1", tags=["OpenAI"])
Key = Annotated[str | None, Header(alias="idempotency-key", max_length=255)]
_FILE = re.compile(r"([0-9a-f]{32})-([0-9]{1,5})\.(png|jpeg|webp)")


@router.post("/images/generations", response_model=None)
async def generate(body: Generation, http: Request, queue: QueueOf, user: UserOf, key: Key = None) -> Response:
    """Draw pictures from words."""
    request = await queue.in_background(generation, body, queue)
    wanted = Wanted.by(body, size_of(body))
    job = await _submit(body, request, wanted, queue, user, key)
    return await _reply(body, job, wanted, queue, http, "image_generation")


@router.post("/images/edits", response_model=None, openapi_extra=form_schema(Edit, "image", "mask"))
async def edit(http: Request, queue: QueueOf, user: UserOf, key: Key = None) -> Response:
    """Change a picture by words: the part that is transparent in the mask or in the picture, or all of it."""
    async with http.form() as form:
        body = read_form(form, Edit)
        image, mask = await read_file(form, "image"), await read_file(form, "mask", needed=False)
    return await _change(body, image or b"", mask, http, queue, user, key)


@router.post("/images/variations", response_model=None, openapi_extra=form_schema(Variation, "image"))
async def vary(http: Request, queue: QueueOf, user: UserOf, key: Key = None) -> Response:
    """Draw variations of a picture."""
    async with http.form() as form:
        body = read_form(form, Variation)
        image = await read_file(form, "image")
    return await _change(body, image or b"", None, http, queue, user, key)


@router.get("/images/files/{name}", response_class=Response)
async def file(
    name: str, queue: QueueOf, until: Annotated[int, Query(ge=0, le=1 << 60)], key: Annotated[str, Query(max_length=64)]
) -> Response:
    """Get a picture by the address in a reply."""
    match = _FILE.fullmatch(name)
    if match is None or not await queue.in_background(is_good, queue, name, until, key):
        raise HTTPException(404, "there is no such picture, or its address is older than an hour")
    with suppress(KeyError):
        job = await queue.get(match[1])
        for picture in job.pictures:
            if picture.index == int(match[2]):
                content = await queue.in_background(picture_file, queue, picture, Wanted.of(job.client))
                return Response(content, media_type=f"image/{match[3]}")
    raise HTTPException(404, "there is no such picture")


@router.get("/models")
async def list_models(queue: QueueOf) -> dict[str, Any]:
    """List the models of this server."""
    return {"object": "list", "data": await queue.in_background(_models)}


@router.get("/models/{name:path}")
async def get_model(name: str, queue: QueueOf) -> dict[str, Any]:
    """Get a model of this server, or the one that an OpenAI model's name means here."""
    if name.lower().startswith(THEIRS):
        return {"id": name, "object": "model", "created": 0, "owned_by": queue.default_model}
    for one in await queue.in_background(_models):
        if one["id"] == name:
            return one
    raise HTTPException(404, f"there is no model {name[:80]!r}; GET /v1/models lists them")


def _models() -> list[dict[str, Any]]:
    here = [one for one in models() if one.path is not None and one.kind == "model"]
    return [
        {"id": one.name, "object": "model", "created": int(one.path.stat().st_mtime), "owned_by": "sfumato"}
        for one in here if one.path is not None
    ]  # fmt: skip


async def _change(
    body: Edit | Variation, image: bytes, mask: bytes | None, http: Request, queue: Queue, user: str, key: str | None
) -> Response:
    request, own = await queue.in_background(change, body, image, mask, queue)
    wanted = Wanted.by(body, size_of(body) or own)
    job = await _submit(body, request, wanted, queue, user, key)
    return await _reply(body, job, wanted, queue, http, "image_edit")


async def _submit(body: Asked, request: JobRequest, wanted: Wanted, queue: Queue, user: str, key: str | None) -> Job:
    said = json.dumps([body.model_dump(), dict(request.pictures)], sort_keys=True)
    digest = hashlib.sha256(said.encode()).hexdigest()
    return await queue.submit(
        request, user=user, dialect="openai", client=wanted.to_json(), key=None if key is None else f"openai {key}",
        body=digest,
    )  # fmt: skip


async def _reply(body: Asked, job: Job, wanted: Wanted, queue: Queue, http: Request, what: str) -> Response:
    if isinstance(body, Drawn) and body.stream:
        events = _events(job, wanted, queue, what, body.partial_images or 0)
        return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
    done = finished(await queue.finished(job.id))
    data = []
    for picture in done.pictures:
        if wanted.url:
            data.append({"url": str(http.base_url).rstrip("/") + address(queue, job.id, picture.index, wanted)})
        else:
            content = await queue.in_background(picture_file, queue, picture, wanted)
            data.append({"b64_json": in_base64(content)})
    return JSONResponse({"created": int(done.created), "data": data, **_described(done, wanted)})


def _described(job: Job, wanted: Wanted) -> dict[str, Any]:
    """Returns what replies and events say about all pictures of a job."""
    first = job.pictures[0] if job.pictures else None
    size = wanted.size or ((first.width, first.height) if first else None)
    said = {"background": "opaque", "output_format": wanted.format, "quality": wanted.quality}
    return said | ({"size": f"{size[0]}x{size[1]}"} if size else {})


async def _events(job: Job, wanted: Wanted, queue: Queue, what: str, partial: int) -> AsyncIterator[str]:
    """Yields at most `partial` previews, then every finished picture."""
    sent = 0
    async for event in queue.events(job.id):
        share = event.data.get("progress", 0)
        if event.preview and sent < partial and share >= (sent + 1) / (partial + 1):
            content = await queue.in_background(_preview, event.preview, wanted)
            told = {"b64_json": in_base64(content), "partial_image_index": sent, "created_at": int(time.time())}
            yield _said(f"{what}.partial_image", {**told, **_described(job, wanted)})
            sent += 1
    try:
        done = finished(await queue.get(job.id))
        for picture in done.pictures:
            content = await queue.in_background(picture_file, queue, picture, wanted)
            told = {"b64_json": in_base64(content), "created_at": int(time.time())}
            yield _said(f"{what}.completed", {**told, **_described(done, wanted)})
    except SfumatoError as failure:
        yield _said("error", error(400, str(failure)))
    except HTTPException as failure:
        yield _said("error", error(failure.status_code, failure.detail))


def _said(event: str, data: dict[str, Any]) -> str:
    return f"event: {event}\ndata: {json.dumps({'type': event, **data})}\n\n"


def _preview(jpeg: bytes, wanted: Wanted) -> bytes:
    return wanted.file(load_image(jpeg))
