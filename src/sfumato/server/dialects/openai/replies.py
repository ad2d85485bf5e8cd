"""Finished pictures and their previews, in the form of OpenAI's API."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from fastapi import HTTPException
from PIL import Image, ImageOps

from sfumato.errors import SfumatoError
from sfumato.images.files import FORMATS, text_options
from sfumato.images.inputs import load_rgba
from sfumato.server.dialects.openai.bodies import Asked, Drawn
from sfumato.server.jobs.job import Job, SavedPicture, State
from sfumato.server.queue import Queue

LIFETIME = 3600  # seconds for which the address of a picture is good
QUALITY = 95
FILES = "/v1/images/files/"


@dataclass(frozen=True)
class Wanted:
    """How a client wants its pictures; kept with the job."""

    size: tuple[int, int] | None = None
    format: str = "png"
    compression: int | None = None
    url: bool = False
    quality: str = "auto"

    @classmethod
    def by(cls, body: Asked, size: tuple[int, int] | None) -> Self:
        """Reads a request. OpenAI's newer models never reply with addresses; the others do by default."""
        newer = (body.model or "").lower().startswith(("gpt-image", "chatgpt-image"))
        url = body.response_format == "url" or (body.response_format is None and not newer)
        if not isinstance(body, Drawn):
            return cls(size, url=url)
        compression, quality = body.output_compression, body.quality or "auto"
        return cls(size, body.output_format or "png", compression, url, quality)

    @classmethod
    def of(cls, client: Mapping[str, Any]) -> Self:
        """Returns the value that `to_json` wrote."""
        size = client.get("size")
        return cls(**{**client, "size": None if size is None else tuple(size)})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def file(self, image: Image.Image, infotext: str | None = None) -> bytes:
        """Returns the file of a picture in the wanted size and format."""
        if self.size is not None and image.size != self.size:
            image = ImageOps.fit(image, self.size, Image.Resampling.LANCZOS)
        kind, file = FORMATS["." + self.format], io.BytesIO()
        options: dict[str, Any] = {} if infotext is None else text_options(kind, infotext)
        if kind != "PNG":
            options["quality"] = QUALITY if self.compression is None else max(1, self.compression)
        Image.Image.save(image.convert("RGB"), file, kind, **options)
        return file.getvalue()


def finished(job: Job) -> Job:
    """Returns the job if it is done. Raises SfumatoError or HTTPException with the reason if it is not."""
    if job.state is State.DONE:
        return job
    if job.bad_input:
        raise SfumatoError(job.error or "the request cannot be honoured")
    if job.state is State.CANCELLED:
        raise HTTPException(409, "the job was cancelled")
    raise HTTPException(500, job.error or "the job failed")


def picture_file(queue: Queue, picture: SavedPicture, wanted: Wanted) -> bytes:
    """Returns a finished picture as the client wants it. Raises HTTPException if its file is gone."""
    path = queue.config.outputs / picture.file
    if not path.is_file():
        raise HTTPException(404, "the picture's file is not there any more")
    content = wanted.file(load_rgba(path), picture.infotext)
    return content if queue.credentials is None else queue.credentials.signed(content, "." + wanted.format)


def in_base64(content: bytes) -> str:
    """Returns a file's bytes in base64."""
    return base64.b64encode(content).decode()


def address(queue: Queue, job: str, index: int, wanted: Wanted) -> str:
    """Returns the path of a picture, which works for an hour without token or password, like OpenAI's addresses."""
    until = int(time.time()) + LIFETIME
    name = f"{job}-{index}.{wanted.format}"
    return f"{FILES}{name}?until={until}&key={_key(queue, name, until)}"


def is_good(queue: Queue, name: str, until: int, key: str) -> bool:
    """Returns whether `address` made this address less than an hour ago."""
    return until > time.time() and hmac.compare_digest(key.encode(), _key(queue, name, until).encode())


def _key(queue: Queue, name: str, until: int) -> str:
    return hmac.new(
        _secret(queue.config.folder / "addresses.key"), f"{name} {until}".encode(), hashlib.sha256
    ).hexdigest()


def _secret(path: Path) -> bytes:
    """The server's own secret, made at the first use."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        pass
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(os.urandom(32))
    new.replace(path)
    return path.read_bytes()
