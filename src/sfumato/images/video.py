"""Pictures in motion: GIF, animated WebP and PNG by Pillow, MP4 where PyAV is installed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from sfumato.errors import SfumatoError
from sfumato.files import atomic_write

ANIMATED = {".gif": "GIF", ".webp": "WEBP", ".png": "PNG"}
FORMATS = (*ANIMATED, ".mp4")


def check_motion(path: Path) -> None:
    """Raises SfumatoError for a suffix of no moving pictures, and for MP4 where nothing here can write it."""
    if path.suffix.lower() not in FORMATS:
        raise SfumatoError(f"cannot write moving pictures as {path.suffix or path.name!r}; use {', '.join(FORMATS)}")
    if path.suffix.lower() == ".mp4":
        try:
            import av  # noqa: F401
        except ImportError:
            raise SfumatoError("MP4 needs PyAV; pip install 'sfumato[video]', or write .gif or .webp") from None


def save_motion(frames: Sequence[Image.Image], path: Path, fps: float) -> None:
    """Write RGB frames of one size, `fps` a second, over and over; at once or not at all. Raises as `check_motion`."""
    check_motion(path)
    content = _mp4(frames, fps) if path.suffix.lower() == ".mp4" else animated(frames, path.suffix.lower(), fps)
    with atomic_write(path) as target:
        target.write(content)


def animated(frames: Sequence[Image.Image], suffix: str, fps: float) -> bytes:
    """RGB frames of one size, `fps` a second, over and over, as a file of one of the `ANIMATED` suffixes."""
    file, kind = io.BytesIO(), ANIMATED[suffix]
    options = {"lossless": True} if kind == "WEBP" else {}
    first, *rest = frames
    first.save(file, kind, save_all=True, append_images=rest, duration=round(1000 / fps), loop=0, **options)
    return file.getvalue()


def _mp4(frames: Sequence[Image.Image], fps: float) -> bytes:
    from fractions import Fraction

    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        # Most players read only this layout of colours, which wants even sides.
        stream.width, stream.height = (side - side % 2 for side in frames[0].size)
        stream.pix_fmt, stream.options = "yuv420p", {"crf": "16"}
        for frame in frames:
            pixels = np.ascontiguousarray(np.asarray(frame)[: stream.height, : stream.width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode())
    return file.getvalue()
