"""Picture files in and out, with the settings that drew a picture inside its file."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from sfumato.errors import SfumatoError, warn
from sfumato.files import atomic_write, short_path

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
# TIFF is left out: its decoder is a large foreign library with a long record of holes.
READABLE = ("PNG", "JPEG", "WEBP", "GIF", "BMP")

# 200 MB once decoded to RGB. A file of a few hundred kilobytes can declare far more.
MAX_PIXELS = 8192 * 8192

SIDEWAYS = (5, 6, 7, 8)  # values of EXIF's Orientation by which width and height change places

# The text chunk in which the community's tools look for settings.
PNG_KEY = "parameters"

# EXIF 2.3, section 4.6.5: UserComment begins with 8 bytes that name its character code.
_UTF16 = b"UNICODE\0"

_URL = re.compile(r"(?:https?|ftp|file|data|s3|gs):", re.IGNORECASE)

# JPEG's usual halving of colour resolution would blur the small pictures drawn here; WebP can be exact.
_OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True},
}


def encode(
    image: Image.Image, suffix: str = ".png", infotext: str | None = None, texts: Mapping[str, str] | None = None
) -> bytes:
    """The file of `image` in the format that `suffix` names (.png .jpg .jpeg .webp), with `infotext` inside it.

    `texts` are further texts for a PNG by their keywords; the other formats have no place for them.
    PNG and WebP are lossless; JPEG is written at quality 95 with full colour resolution. Raises SfumatoError for an
    unknown suffix, or where the picture or the text is too large for the format.
    """
    kind = FORMATS.get(suffix.lower())
    if kind is None:
        raise SfumatoError(f"cannot write pictures as {suffix or 'a file without suffix'!r}; use {', '.join(FORMATS)}")
    options = _OPTIONS[kind] | ({} if infotext is None else text_options(kind, infotext))
    if texts and kind == "PNG":
        options["pnginfo"] = chunks = options.get("pnginfo") or PngInfo()
        for keyword, text in texts.items():
            _add_text(chunks, keyword, text)
    file = io.BytesIO()
    try:
        # Not the method of a picture that brings a text of its own.
        Image.Image.save(image.convert("RGB") if kind == "JPEG" else image, file, kind, **options)
    except (OSError, ValueError) as error:
        raise SfumatoError(f"cannot write this picture as {kind}: {error}; PNG has room for it") from error
    return file.getvalue()


def text_options(kind: str, infotext: str) -> dict[str, Any]:
    """The arguments by which Pillow writes `infotext` into a PNG (as a text chunk), a JPEG or a WebP (in EXIF)."""
    # Lone surrogates stand for bytes of the command line that were no text; no file format can hold them.
    infotext = infotext.encode(errors="replace").decode()
    if kind == "PNG":
        chunks = PngInfo()
        _add_text(chunks, PNG_KEY, infotext)
        return {"pnginfo": chunks}
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = _UTF16 + infotext.encode("utf_16_be")
    return {"exif": exif}


def _add_text(chunks: PngInfo, keyword: str, text: str) -> None:
    # The standard's plain chunks are Latin-1, but many hold UTF-8 and readers guess; the other says which it is.
    (chunks.add_text if text.isascii() else chunks.add_itxt)(keyword, text)


def save(image: Image.Image, path: str | Path, infotext: str | None = None, replace: bool = True) -> None:
    """Write `image` to `path` at once or not at all, in the format of its suffix; see `encode`.

    Without `replace` a file of this name stays, and FileExistsError says so.
    """
    content = encode(image, Path(path).suffix, infotext)
    with atomic_write(path, replace) as file:
        file.write(content)


def open_image(path: str | Path | BinaryIO) -> Image.Image:
    """Read a file of one of the READABLE formats upright and in RGB; what is transparent becomes white.

    Of an animation the first frame is taken, which a SfumatoWarning says. Raises SfumatoError for other formats, for
    files that are broken and for more than MAX_PIXELS.
    """
    return on_white(read_image(path))


def read_image(path: str | Path | BinaryIO, what: str = "the picture") -> Image.Image:
    """As `open_image`, with transparency where there is any; see `upright`. `what` names a file without a path."""
    with opened(path, what) as image:
        if getattr(image, "is_animated", False) and image.format != "MPO":  # a photo with its thumbnail
            warn(f"{short_path(path) if isinstance(path, str | Path) else what} is animated; its first frame is taken")
        return upright(image)


def read_picture(content: io.BytesIO, what: str) -> Image.Image:
    """As `read_image`, of the bytes of a file; `what` names them in messages."""
    with opened(content, what) as image:
        return upright(image)


def upright_size(source: str | Path | BinaryIO, what: str) -> tuple[int, int]:
    """Width and height that `read_image` will give, without decoding the pixels. Raises as `opened`.

    EXIF data that a PNG has behind its pixels is not seen.
    """
    with opened(source, what, decode=False) as image:
        width, height = image.size
        # Pillow would decode a PNG to look for more.
        exif = image.getexif() if image.format != "PNG" or "exif" in image.info else {}
        return (height, width) if exif.get(ExifTags.Base.Orientation, 1) in SIDEWAYS else (width, height)


def upright(image: Image.Image) -> Image.Image:
    """A picture of any mode as 8-bit RGB, or as RGBA if any of it is transparent, turned as its EXIF data says.

    16 bits are scaled, not clipped; CMYK is converted without a colour profile.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        # 16-bit grey: Pillow would clip it.
        return image.point(lambda value: value / 257).convert("L").convert("RGB")
    if image.has_transparency_data:
        image = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            return image
    return image.convert("RGB")


def on_white(image: Image.Image) -> Image.Image:
    """RGB or RGBA as RGB."""
    if image.mode == "RGB":
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def check_size(width: int, height: int, what: object) -> None:
    """Raise SfumatoError for a picture that is too large to be worked with, or has no pixels."""
    if width * height > MAX_PIXELS:
        raise SfumatoError(f"{what} has {width}x{height} pixels; the limit is {MAX_PIXELS:,}; scale it down")
    if width * height == 0:
        raise SfumatoError(f"{what} is {width}x{height} and has no pixels; give another one")


def _check_file(path: str | Path) -> Path:
    """Raises SfumatoError for what is no file on this machine."""
    if _URL.match(str(path)):
        raise SfumatoError(f"{short_path(path)} is a web address, and nothing is downloaded; save the picture first")
    path = Path(path)
    try:
        if not path.is_file():
            there = path.exists()
            raise SfumatoError(f"{path} is not a file; expected a picture" if there else f"there is no file {path}")
    except (OSError, ValueError) as error:  # a name that is too long for any file, or has a NUL
        reason = getattr(error, "strerror", None) or error
        raise SfumatoError(f"cannot read {short_path(path)}: {reason}; give the name of a picture") from None
    return path


@contextmanager
def opened(source: str | Path | BinaryIO, what: str = "the picture", decode: bool = True) -> Iterator[Image.Image]:
    """A decoded picture within the limits, out of a file or what can be read like one, which `what` then names.

    Without `decode` only the beginning of the file is read, which gives size and format. Every failure of the decoders
    becomes one line.
    """
    path: Path | str = what
    if isinstance(source, str | Path):
        source = path = _check_file(source)
    try:
        with warnings.catch_warnings():
            # Pillow's own limit only warns, and after ours nothing is left to warn of.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(source, formats=READABLE)
        with image:
            width, height = image.size
            check_size(width, height, path)
            if decode:
                image.load()
            yield image
    except SfumatoError:
        raise
    except UnidentifiedImageError:
        known = "PNG, JPEG, WebP, GIF or BMP"
        raise SfumatoError(f"{path} is no {known} picture; convert it to one of these") from None
    except Image.DecompressionBombError:
        raise SfumatoError(f"{path} has more than {MAX_PIXELS:,} pixels; scale it down") from None
    except Exception as error:  # broken files make the decoders raise nearly anything
        raise SfumatoError(f"cannot read {path}: {error}; it seems to be damaged") from error
