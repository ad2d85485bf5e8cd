"""Pictures sent, and pictures shown."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, HTTPException, Query, UploadFile
from fastapi.responses import FileResponse, Response
from PIL import Image

from sfumato.errors import SfumatoError
from sfumato.images.inputs import load_rgba
from sfumato.server.dialects.base import QueueOf, UserOf
from sfumato.server.dialects.comfyui.prompts import drawn_file
from sfumato.server.dialects.comfyui.uploads import Uploads, checked_name
from sfumato.server.jobs.inputs import MAX_BYTES
from sfumato.server.queue import Queue

router = APIRouter()
KINDS = ("input", "output", "temp")
MEDIA = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif", "BMP": "image/bmp"}
Yes = ("1", "true", "yes")


@router.post("/upload/image")
async def upload_image(
    queue: QueueOf, user: UserOf, image: Annotated[UploadFile, File()], subfolder: Annotated[str, Form()] = "",
    type: Annotated[str, Form()] = "input", overwrite: Annotated[str, Form()] = "",
) -> dict[str, str]:  # fmt: skip
    """Send a picture that graphs can then name."""
    content = await _content(image)
    return await queue.in_background(
        _kept, queue, user, content, image.filename or "", subfolder, type, overwrite.lower() in Yes
    )


@router.post("/upload/mask")
async def upload_mask(
    queue: QueueOf, user: UserOf, image: Annotated[UploadFile, File()], original_ref: Annotated[str, Form()],
    subfolder: Annotated[str, Form()] = "", type: Annotated[str, Form()] = "input",
    overwrite: Annotated[str, Form()] = "",
) -> dict[str, str]:  # fmt: skip
    """Send a mask for a picture sent before: its transparent part becomes transparent in the picture."""
    content = await _content(image)

    path = await _referred(queue, user, original_ref)

    def masked() -> dict[str, str]:
        under = load_rgba(path)
        alpha = load_rgba(content, "the mask").convert("RGBA").getchannel("A").resize(under.size)
        whole = under.convert("RGBA")
        whole.putalpha(alpha)
        file = io.BytesIO()
        whole.save(file, "PNG")
        made = file.getvalue()
        return _kept(queue, user, made, image.filename or "", subfolder, type, overwrite.lower() in Yes)

    return await queue.in_background(masked)


async def _content(image: UploadFile) -> bytes:
    if image.size is not None and image.size > MAX_BYTES:
        raise HTTPException(413, f"the picture has {image.size:,} bytes; the limit is {MAX_BYTES:,}")
    return await image.read()


async def _referred(queue: Queue, user: str, text: str) -> Path:
    """The file of the picture that a reference names, a JSON object with filename, subfolder and type."""
    try:
        said = json.loads(text)
        filename, subfolder, kind = said["filename"], said.get("subfolder", ""), said.get("type", "output")
        name = checked_name(filename, subfolder)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise SfumatoError("original_ref is no reference; give filename, subfolder and type of a picture") from None
    path = await _file(queue, user, name, kind)
    if path is None:
        raise SfumatoError(f"there is no picture {name!r}; send it first")
    return path


def _kept(
    queue: Queue, user: str, content: bytes, filename: str, subfolder: str, kind: str, overwrite: bool
) -> dict[str, str]:
    if kind not in KINDS:
        raise SfumatoError(f"type is {kind[:40]!r}; choose one of {', '.join(KINDS)}")
    name = checked_name(filename, subfolder)
    picture = queue.inputs.add(content)
    folder, _, name = Uploads(queue.config.folder).add(user, kind, name, picture, overwrite).rpartition("/")
    return {"name": name, "subfolder": folder, "type": kind}


async def _file(queue: Queue, user: str, name: str, kind: str) -> Path | None:
    """The file of a picture that was sent by a user, or drawn for them; None where there is none."""
    found = await queue.in_background(Uploads(queue.config.folder).find, user, str(kind), name)
    if found is not None:
        path = queue.inputs.path(found)
        return path if path.is_file() else None
    return None if kind == "input" else await drawn_file(queue, user, name)


@router.get("/view", response_class=Response)
async def view(
    queue: QueueOf, user: UserOf, filename: str, subfolder: str = "", type: str = "output",
    preview: Annotated[str | None, Query(max_length=40)] = None, channel: str = "rgba",
) -> Response:  # fmt: skip
    """Get a picture that was sent or drawn; with `preview` in another format, such as "webp;80"."""
    try:
        name = checked_name(filename, subfolder)
    except SfumatoError as error:
        raise HTTPException(400, str(error)) from None
    path = await _file(queue, user, name, type)
    if path is None:
        raise HTTPException(404, "there is no such picture")
    if preview is None and channel == "rgba":
        return FileResponse(path, media_type=await queue.in_background(_media, path))
    return await queue.in_background(_changed, path, preview, channel)


def _media(path: Path) -> str:
    with Image.open(path, formats=list(MEDIA)) as image:
        return MEDIA[str(image.format)]


def _changed(path: Path, preview: str | None, channel: str) -> Response:
    """A picture in another format, without its transparency ("rgb"), or that alone ("a")."""
    image = load_rgba(path)
    if channel == "a":
        alpha = image.convert("RGBA").getchannel("A")
        image = Image.merge("RGBA", [Image.new("L", image.size)] * 3 + [alpha])
    elif channel == "rgb":
        image = image.convert("RGB")
    kind, _, quality = (preview or "png").partition(";")
    form = "JPEG" if kind.lower() in ("jpeg", "jpg") else "WEBP" if kind.lower() == "webp" else "PNG"
    options: dict[str, Any] = {} if form == "PNG" else {"quality": _quality(quality)}
    file = io.BytesIO()
    (image.convert("RGB") if form == "JPEG" else image).save(file, form, **options)
    return Response(file.getvalue(), media_type=MEDIA[form])


def _quality(text: str) -> int:
    return min(100, max(1, int(text))) if text.isascii() and text.isdigit() and len(text) < 4 else 90
