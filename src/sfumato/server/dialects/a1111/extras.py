"""Pictures enlarged, read, and put into words."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, HTTPException
from PIL import Image
from pydantic import BaseModel, Field

from sfumato.images.files import on_white, open_image
from sfumato.provenance import infotext
from sfumato.provenance.embedded import read_infotext
from sfumato.server.dialects.a1111.bodies import Body, Int
from sfumato.server.dialects.a1111.common import is_none, refuse
from sfumato.server.dialects.a1111.pictures import file_of, picture_of, png
from sfumato.server.dialects.a1111.replies import ordered
from sfumato.server.dialects.a1111.state import A1111, StateOf
from sfumato.server.dialects.base import UserOf
from sfumato.server.jobs.job import JobRequest
from sfumato.settings.checks import check_number
from sfumato.settings.task_options import MAX_SCALE

router = APIRouter(prefix="/sdapi/v1", tags=["a1111"])


class ExtrasBody(Body):
    """How pictures are enlarged: by a factor (resize_mode 0), or to a size (1)."""

    resize_mode: Int | None = Field(0, ge=0, le=1)
    show_extras_results: bool | None = True
    gfpgan_visibility: float | None = 0
    codeformer_visibility: float | None = 0
    codeformer_weight: float | None = 0
    upscaling_resize: float | None = Field(2, gt=0)
    upscaling_resize_w: Int | None = Field(512, ge=1)
    upscaling_resize_h: Int | None = Field(512, ge=1)
    upscaling_crop: bool | None = True
    upscaler_1: str | None = "None"
    upscaler_2: str | None = "None"
    extras_upscaler_2_visibility: float | None = Field(0, ge=0, le=1)
    upscale_first: bool | None = False


class SingleBody(ExtrasBody):
    image: str = ""


class FileData(Body):
    data: str
    name: str


class BatchBody(ExtrasBody):
    imageList: list[FileData]


class SingleReply(BaseModel):
    html_info: str
    image: str | None


class BatchReply(BaseModel):
    html_info: str
    images: list[str]


@router.post("/extra-single-image")
async def enlarge_one(body: SingleBody, state: StateOf, user: UserOf) -> SingleReply:
    """Enlarge a picture."""
    (image,), told = await _enlarged(body, [body.image], state, user)
    return SingleReply(html_info=told, image=image if body.show_extras_results is not False else None)


@router.post("/extra-batch-images")
async def enlarge_several(body: BatchBody, state: StateOf, user: UserOf) -> BatchReply:
    """Enlarge several pictures."""
    images, told = await _enlarged(body, [one.data for one in body.imageList], state, user)
    return BatchReply(html_info=told, images=images)


async def _enlarged(body: ExtrasBody, texts: Sequence[str], state: A1111, user: str) -> tuple[list[str], str]:
    wanted = await state.queue.in_background(_wanted, body, texts, state)
    requests = [request for one in wanted for request in one.requests]
    jobs = await state.calls.run(user, requests)
    files = [state.queue.config.outputs / one.file for job in jobs for one in ordered(job)]
    if len(files) < len(requests):
        raise HTTPException(400, "it was interrupted before the picture was finished")

    def made() -> list[str]:
        left = iter(files)
        return [png(one.picture([open_image(next(left)) for _ in one.requests]), one.infotext) for one in wanted]

    images = await state.queue.in_background(made)
    return images, f"Upscaler: {body.upscaler_1}"


@dataclass(frozen=True)
class _Wanted:
    """A picture to be enlarged: by the requests, whose results are mixed by `share` and cut to `size` where given."""

    requests: Sequence[JobRequest]
    share: float
    size: tuple[int, int]
    infotext: str | None

    def picture(self, results: Sequence[Image.Image]) -> Image.Image:
        image = (
            results[0] if len(results) == 1 else Image.blend(results[0], results[1].resize(results[0].size), self.share)
        )
        return _cut(image, *self.size)


def _wanted(body: ExtrasBody, texts: Sequence[str], state: A1111) -> list[_Wanted]:
    if body.gfpgan_visibility or body.codeformer_visibility:
        raise refuse("gfpgan_visibility, codeformer_visibility", "there is no face restorer here; send 0")
    names = [_upscaler(body.upscaler_1, state)]
    share = body.extras_upscaler_2_visibility or 0
    if share and not is_none(body.upscaler_2):
        names.append(_upscaler(body.upscaler_2, state))
    found = []
    for text in texts:
        if not text:
            raise HTTPException(404, "Image not found: send a picture in base64")
        image = on_white(picture_of(text, "the picture"))
        scale, size = _goal(body, image)
        name = state.queue.inputs.add(image)
        how = [{"scale": max(1.0, scale), "upscaler": one} for one in names]
        requests = [JobRequest(kind="enlarge", how=one, pictures={"image": name}) for one in how]
        found.append(_Wanted(requests, share, size, _infotext_of(text)))
    return found


def _goal(body: ExtrasBody, image: Image.Image) -> tuple[float, tuple[int, int]]:
    """How many times as wide and high a picture becomes, and the size that it has in the end."""
    if body.resize_mode != 1:
        scale = body.upscaling_resize or 2
        check_number("upscaling_resize", scale, 1 / MAX_SCALE, MAX_SCALE, 2)
        return scale, (max(1, round(scale * image.width)), max(1, round(scale * image.height)))
    size = body.upscaling_resize_w or 512, body.upscaling_resize_h or 512
    scale = max(size[0] / image.width, size[1] / image.height)
    if body.upscaling_crop is False:
        size = max(1, round(scale * image.width)), max(1, round(scale * image.height))
    return scale, size


def _cut(image: Image.Image, width: int, height: int) -> Image.Image:
    """A picture that is at least so large, scaled down and cut in its middle."""
    scale = max(width / image.width, height / image.height)
    if scale < 1:
        image = image.resize((max(width, round(scale * image.width)), max(height, round(scale * image.height))))
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image if image.size == (width, height) else image.crop((left, top, left + width, top + height))


def _upscaler(name: str | None, state: A1111) -> str:
    """What the kind "enlarge" calls an upscaler. Raises SfumatoError for one that is not here."""
    if is_none(name) or name == "Lanczos":
        return "lanczos"
    return "nearest" if name == "Nearest" else state.files.find(name or "", "upscaler", "upscaler").name


class PictureBody(Body):
    image: str = ""


class InfoReply(BaseModel):
    info: str
    items: dict[str, Any]
    parameters: dict[str, Any]


@router.post("/png-info")
async def png_info(body: PictureBody, state: StateOf) -> InfoReply:
    """Read the settings in a picture's file."""
    text = await state.queue.in_background(_infotext_of, body.image) or ""
    prompt, negative, fields = infotext.parse(text)
    found = {"Prompt": prompt, "Negative prompt": negative, **fields} if text else {}
    return InfoReply(info=text, items={"parameters": text} if text else {}, parameters=found)


def _infotext_of(text: str) -> str | None:
    return read_infotext(io.BytesIO(file_of(text, "the picture"))) if text else None


class InterrogateBody(PictureBody):
    model: str | None = "clip"


class Caption(BaseModel):
    caption: str


@router.post("/interrogate")
async def interrogate(body: InterrogateBody, state: StateOf, user: UserOf) -> Caption:
    """Describe a picture by the names that fit it best."""
    if body.model != "clip":
        raise HTTPException(404, f"Model not found: {str(body.model)[:80]!r}; send clip")
    if not body.image:
        raise HTTPException(404, "Image not found: send a picture in base64")

    def asked() -> JobRequest:
        return JobRequest(
            kind="interrogate",
            pictures={"image": state.queue.inputs.add(on_white(picture_of(body.image, "the picture")))},
        )

    (job,) = await state.calls.run(user, [await state.queue.in_background(asked)])
    matches = [] if job is None else job.report.get("matches", [])
    return Caption(caption=", ".join(one["caption"] for one in matches))
