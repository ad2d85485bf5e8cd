"""The gallery: finds pictures, marks them, makes small versions and archives of them."""

from __future__ import annotations

import base64
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, HTTPException, Query
from fastapi.responses import FileResponse, StreamingResponse
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from sfumato.files import atomic_write
from sfumato.images.files import on_white
from sfumato.images.inputs import load_rgba
from sfumato.server.dialects.base import QueueOf, UserOf, Whole
from sfumato.server.dialects.own import find
from sfumato.server.jobs.gallery import Gallery, Place, Search, Shown
from sfumato.server.queue import Queue

router = APIRouter()
SMALL = 320  # pixels of a small version's longer side
UNDO = 3600.0  # seconds in which a deleted picture can come back
LOOKED_AT = 48  # pictures that one question to the worker looks at
MAX_PLACES = 10_000


@dataclass(frozen=True, kw_only=True)
class ShownView(Shown):
    """A picture of the gallery, with the addresses of its file and of a small version."""

    url: str
    small: str


class Found(BaseModel):
    """Part of a list of pictures, and the number of all."""

    total: int
    pictures: list[ShownView]


class PlaceView(BaseModel):
    job: str = Field(max_length=64)
    index: Whole


class Places(BaseModel):
    """Pictures, by their jobs and their indices there."""

    model_config = ConfigDict(extra="forbid")
    pictures: list[PlaceView] = Field(max_length=MAX_PLACES)

    @property
    def places(self) -> list[Place]:
        return [(one.job, one.index) for one in self.pictures]


class Marks(Places):
    """The marks to change on pictures; a null leaves one as it is."""

    favourite: bool | None = None
    folder: str | None = Field(None, max_length=100)
    deleted: bool | None = None


def _search(
    words: Annotated[str, Query(max_length=500)] = "",
    model: str | None = None,
    seed: str | None = None,
    after: float | None = None,
    before: float | None = None,
    favourite: bool = False,
    folder: str | None = None,
) -> Search:
    return Search(
        words=words, model=model, seed=seed, after=after, before=before, favourite=favourite, folder=folder
    )  # fmt: skip


SearchOf = Annotated[Search, Depends(_search)]


@router.get("/gallery")
async def list_pictures(
    queue: QueueOf,
    user: UserOf,
    search: SearchOf,
    offset: Annotated[Whole, Query(ge=0)] = 0,
    count: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Found:
    """List finished pictures, newest first."""
    total, shown = await queue.gallery(lambda one: (one.count(user, search), one.pictures(user, search, offset, count)))
    return Found(total=total, pictures=list(map(_view, shown)))


@router.get("/gallery/facets")
async def facets(queue: QueueOf, user: UserOf) -> dict[str, list[str]]:
    """List the models and folders of the pictures."""
    models, folders = await queue.gallery(lambda one: one.facets(user))
    return {"models": models, "folders": folders}


class Faces(BaseModel):
    """The address of a small picture by the name of what it was drawn with last."""

    models: dict[str, str]
    loras: dict[str, str]


@router.get("/gallery/faces")
async def faces(queue: QueueOf, user: UserOf) -> Faces:
    """The last picture that was drawn with each model, and with each LoRA."""
    found = await queue.gallery(lambda one: one.latest_with(user))
    models, loras = ({name: _address(*place) + "/small" for name, place in one.items()} for one in found)
    return Faces(models=models, loras=loras)


@router.post("/gallery/mark")
async def mark(marks: Marks, queue: QueueOf, user: UserOf) -> dict[str, int]:
    """Make pictures favourites, put them into a folder, delete them, or undo that; deleted files go after an hour."""
    changed: dict[str, Any] = {}
    if marks.favourite is not None:
        changed["favourite"] = int(marks.favourite)
    if marks.folder is not None:
        changed["folder"] = marks.folder.strip()
    if marks.deleted is not None:
        changed["deleted"] = time.time() if marks.deleted else None
    count = await queue.gallery(lambda one: one.mark(user, marks.places, changed))
    gone = await queue.gallery(lambda one: one.purge(time.time() - UNDO))
    for file in gone:
        for path in (queue.config.outputs / file, _small_file(queue, file)):
            path.unlink(missing_ok=True)
        queue.films.forget(Path(file).stem.rpartition("-")[0])
    return {"changed": count}


@router.post("/gallery/export", response_class=StreamingResponse)
async def export(places: Places, queue: QueueOf, user: UserOf) -> StreamingResponse:
    """Get a zip archive of pictures; the settings of each are in its file."""
    shown = await queue.gallery(lambda one: one.get(user, places.places))
    files = [path for one in shown if (path := queue.config.outputs / one.file).is_file()]
    headers = {"Content-Disposition": 'attachment; filename="pictures.zip"'}
    return StreamingResponse(_archive(files), media_type="application/zip", headers=headers)


@router.get("/gallery/similar")
async def similar(
    queue: QueueOf,
    user: UserOf,
    text: Annotated[str, Query(max_length=500)] = "",
    job: str | None = None,
    index: int = 0,
    count: Annotated[int, Query(ge=1, le=200)] = 60,
) -> Found:
    """List the pictures most similar to one of them, or to a text, by the CLIP that ships."""
    if job is None and not text.strip():
        raise HTTPException(422, "similar to what? give a text, or job and index of a picture")
    await _look(queue, user)
    vectors = await queue.gallery(lambda one: one.vectors(user))
    if job is None:
        wanted = base64.b64decode((await queue.ask("likeness", {"text": text}))["text"])
    else:
        wanted = next((vector for place, vector in vectors if place == (job, index)), b"")
        if not wanted:
            raise HTTPException(404, "this picture is not in the gallery")
    found = [place for place, vector in vectors if len(vector) == len(wanted)]
    table = np.frombuffer(b"".join(vector for _, vector in vectors if len(vector) == len(wanted)), np.float32)
    like = np.frombuffer(wanted, np.float32)
    scores = table.reshape(len(found), len(like)) @ like
    best = [found[k] for k in np.argsort(-scores, kind="stable")[:count]]
    shown = await queue.gallery(lambda one: one.get(user, best))
    return Found(total=len(shown), pictures=list(map(_view, shown)))


async def _look(queue: Queue, user: str) -> None:
    """Has the worker look at all pictures of a user that it has not looked at yet."""
    while unseen := await queue.gallery(lambda one: one.without_vector(user, LOOKED_AT)):
        files = [str(queue.config.outputs / one.file) for one in unseen]
        vectors = (await queue.ask("likeness", {"files": files}))["vectors"]
        kept = {
            one.place: b"" if vector is None else base64.b64decode(vector)
            for one, vector in zip(unseen, vectors, strict=True)
        }
        await queue.gallery(partial(Gallery.keep_vectors, vectors=kept))


@router.get("/jobs/{job}/pictures/{index}/small", response_class=FileResponse)
async def small(job: str, index: int, queue: QueueOf, user: UserOf) -> FileResponse:
    """Get a small version of a picture, as WebP."""
    found = await find(queue, job, user)
    picture = next((one for one in found.pictures if one.index == index), None)
    if picture is None:
        raise HTTPException(404, f"job {job} has no picture {index}")
    source, target = queue.config.outputs / picture.file, _small_file(queue, picture.file)
    try:
        await queue.in_background(_make_small, source, target)
    except FileNotFoundError:
        raise HTTPException(404, f"the file of picture {index} is gone") from None
    return FileResponse(target, media_type="image/webp", headers={"Cache-Control": "private, max-age=3600"})


def _make_small(source: Path, target: Path) -> None:
    if target.is_file() and target.stat().st_mtime >= source.stat().st_mtime:
        return
    image = on_white(load_rgba(source))
    image.thumbnail((SMALL, SMALL), Image.Resampling.LANCZOS)
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(target) as file:
        image.save(file, "WEBP", quality=80)


def _small_file(queue: Queue, file: str) -> Path:
    return (queue.config.folder / "small" / file).with_suffix(".webp")


def _address(job: str, index: int) -> str:
    return f"/api/jobs/{job}/pictures/{index}"


def _view(one: Shown) -> ShownView:
    url = _address(*one.place)
    return ShownView(url=url, small=url + "/small", **vars(one))


class _Pipe:
    """Takes what an archive writes, and gives it on in pieces."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def write(self, piece: bytes) -> int:
        self.pieces.append(bytes(piece))
        return len(piece)

    def flush(self) -> None:
        """Nothing is held back."""

    def taken(self) -> bytes:
        """What was written since the last call."""
        pieces, self.pieces = self.pieces, []
        return b"".join(pieces)


def _archive(files: list[Path]) -> Iterator[bytes]:
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]
        for path in files:
            archive.write(path, path.name)
            yield pipe.taken()
    yield pipe.taken()
