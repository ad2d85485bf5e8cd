"""The texts inside a picture's file, wherever programs put them: chunks, EXIF, XMP, comments, or the pixels."""

from __future__ import annotations

import html
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image
from PIL.PngImagePlugin import iTXt

from sfumato.images.files import PNG_KEY, opened

MAX_HIDDEN = 1 << 22  # bytes that a text in the pixels may have once unpacked
MAX_JSON = 1 << 26

# EXIF 2.3, section 4.6.5: UserComment begins with 8 bytes that name its character code.
_UTF16, _ASCII, _NONE = b"UNICODE\0", b"ASCII\0\0\0", bytes(8)
_COMMENT = "UserComment"
# What programs write before the JSON that they put into EXIF fields made for other things.
_LABEL = re.compile(r"\s*(prompt|workflow)\s*:\s*(?=[{\[])", re.IGNORECASE)
# Draw Things writes the first, with more marks inside; others an attribute.
_XMP = (("<exif:UserComment>", "</exif:UserComment>"), ('exif:UserComment="', '"'))
_TAGS = re.compile(r"<[^<>]{0,300}>")
# How texts in the pixels begin: which channels hold them, and whether they are packed.
_HIDDEN = {
    "stealth_pnginfo": ("A", False), "stealth_pngcomp": ("A", True),
    "stealth_rgbinfo": ("RGB", False), "stealth_rgbcomp": ("RGB", True),
}  # fmt: skip


@dataclass(frozen=True)
class Embedded:
    """All texts of a file by their names, and the picture's size in pixels, (0, 0) where there is no picture."""

    texts: Mapping[str, str]
    size: tuple[int, int] = (0, 0)

    @cached_property
    def objects(self) -> Mapping[str, dict[str, Any]]:
        """Those texts that are JSON objects."""
        return {name: found for name, text in self.texts.items() if (found := json_object(text)) is not None}

    @classmethod
    def of_picture(cls, path: str | Path | BinaryIO) -> Embedded:
        """Raises SfumatoError as `picture.open_image`."""
        with opened(path) as image:
            texts = dict(_chunks(image))
            for name, text in (*_exif(image), *_xmp(image)):
                texts.setdefault(name, text)
            if (hidden := _hidden(image)) is not None:
                texts["the pixels"] = hidden
            return cls(texts, image.size)


def read_infotext(path: str | Path | BinaryIO) -> str | None:
    """The settings inside a picture file as web UIs and we write them, or None. Raises as `picture.open_image`."""
    texts = Embedded.of_picture(path).texts
    return texts.get(PNG_KEY, texts.get(_COMMENT))


def json_object(text: str) -> dict[str, Any] | None:
    """The object that a text is, or None. A list, a number or what is damaged is none."""
    start = text.lstrip()[:2]
    if (start[:1] != "{" and start != '"{') or len(text) > MAX_JSON:
        return None
    try:
        found = json.loads(text)
        if isinstance(found, str):  # written as JSON twice
            found = json.loads(found)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def mended(text: str) -> str:
    """What was written as UTF-8 and read as Latin-1, read as it was written; any other text as it is."""
    if text.isascii():
        return text
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def decoded_comment(comment: bytes) -> str:
    """The text of EXIF's UserComment, whose first eight bytes often do not say how it is written."""
    code, text = comment[:8], comment[8:]
    if code == _UTF16:
        if text[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return text.decode("utf-16", errors="replace")
        # The standard leaves the byte order open. Fields are ASCII, so the half with more zeros is the high one.
        big = text[0::2].count(0) >= text[1::2].count(0)
        return text.decode("utf_16_be" if big else "utf_16_le", errors="replace")
    return _utf8(text if code in (_ASCII, _NONE) else comment)


def _utf8(raw: bytes) -> str:
    raw = raw.strip(b"\0")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _chunks(image: Image.Image) -> Iterator[tuple[str, str]]:
    """Text chunks of PNG, which are Latin-1 by the standard and UTF-8 by habit; comments of JPEG and GIF."""
    for name, value in image.info.items():
        if isinstance(value, str):
            yield str(name), value if isinstance(value, iTXt) else mended(value)
        elif name == "comment" and isinstance(value, bytes):
            yield "comment", _utf8(value)


def _exif(image: Image.Image) -> Iterator[tuple[str, str]]:
    """Texts in EXIF fields; what is labelled "prompt:" or "workflow:" by that name."""
    exif = image.getexif()
    for ifd in (exif.get_ifd(ExifTags.IFD.Exif), exif):
        for tag, value in ifd.items():
            name = ExifTags.TAGS.get(tag, str(tag))
            if isinstance(value, bytes) and name == _COMMENT:
                yield name, decoded_comment(value)
            elif isinstance(value, str):
                text = mended(value).strip("\0")
                label = _LABEL.match(text)
                yield (name, text) if label is None else (label[1].lower(), text[label.end() :])


def _xmp(image: Image.Image) -> Iterator[tuple[str, str]]:
    """The user's comment in XMP; the XML is not parsed, so that nothing in it can unfold."""
    packet = image.info.get("xmp", image.info.get("XML:com.adobe.xmp"))
    text = _utf8(packet) if isinstance(packet, bytes) else packet
    if not isinstance(text, str):
        return
    for before, after in _XMP:
        start = text.find(before)
        end = text.find(after, start + len(before))
        if 0 <= start < end:
            yield "XMP UserComment", html.unescape(_TAGS.sub("", text[start + len(before) : end])).strip()


def _hidden(image: Image.Image) -> str | None:
    """A text in the lowest bits of the pixels, column by column: a name, the number of its bits, and these."""
    head = _lowest_bits(image, 0, 15)
    for name, (channels, packed) in _HIDDEN.items():
        if head.get(channels) == name.encode():
            count = int.from_bytes(_lowest_bits(image, 15, 19)[channels], "big") // 8
            if not 0 < count <= MAX_HIDDEN:
                return None
            raw = _lowest_bits(image, 19, 19 + count)[channels]
            try:
                return _utf8(zlib.decompressobj(31).decompress(raw, MAX_HIDDEN) if packed else raw)
            except zlib.error:
                return None
    return None


def _lowest_bits(image: Image.Image, start: int, end: int) -> dict[str, bytes]:
    """Bytes from `start` to `end` of the lowest bits of alpha, and of red, green and blue in turn."""
    found = {}
    for channels in ("A", "RGB"):
        if image.mode not in ("RGB", "RGBA") or (channels == "A" and image.mode != "RGBA"):
            continue
        first, last = (place * 8 // len(channels) // image.height for place in (start, end))
        strip = np.asarray(image.crop((first, 0, min(last + 1, image.width), image.height)))
        bits = (strip[..., 3:] if channels == "A" else strip[..., :3]).swapaxes(0, 1).reshape(-1) & 1
        skip = start * 8 - first * image.height * len(channels)
        found[channels] = np.packbits(bits[skip : skip + (end - start) * 8]).tobytes()
    return found
