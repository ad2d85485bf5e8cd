"""Pictures that requests bring, and those that replies take back."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from fastapi import HTTPException
from PIL import Image

from sfumato.images.files import encode
from sfumato.images.inputs import load_rgba
from sfumato.server.dialects.own import decoded
from sfumato.server.safety.fetch import fetch_if_allowed

WEB = ("http://", "https://")
SUFFIXES = {"jpg": ".jpg", "jpeg": ".jpg", "webp": ".webp"}
THRESHOLD = 128  # above which a mask is drawn


def file_of(text: str, what: str) -> bytes:
    """A picture's file: base64, a data: URL, or a web address where these are fetched. Raises SfumatoError."""
    text = text.strip()
    return fetch_if_allowed(text, what) if text.startswith(WEB) else decoded(text, what)


def picture_of(text: str, what: str) -> Image.Image:
    """The picture that `file_of` gives, in RGB or RGBA. Raises SfumatoError for what is none."""
    return load_rgba(file_of(text, what), what)


def mask_of(text: str, rounded: bool = True) -> Image.Image:
    """A mask (L), white where to draw: its opaque part where it has transparency, else what is bright."""
    image = picture_of(text, "mask")
    grey = image.getchannel("A") if image.mode == "RGBA" else image.convert("L")
    return grey.point(lambda value: 255 if value > THRESHOLD else 0) if rounded else grey


def png(image: Image.Image, infotext: str | None = None) -> str:
    """A picture in base64, as PNG with its settings."""
    return base64.b64encode(encode(image, ".png", infotext)).decode()


def sent(path: Path, infotext: str, samples_format: str) -> str:
    """A finished picture's file in base64, in the format that a client wants. Raises HTTPException where it is gone."""
    try:
        content = path.read_bytes()
    except OSError:
        raise HTTPException(404, "the picture's file is not there any more") from None
    if (suffix := SUFFIXES.get(samples_format)) is not None:
        content = encode(Image.open(io.BytesIO(content)), suffix, infotext)
    return base64.b64encode(content).decode()
