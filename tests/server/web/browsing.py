"""What the tests of the page have in common."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

Page = Any
PATIENCE = 180_000  # milliseconds, on a machine that has much else to do
VIEWS = ("draw", "edit", "gallery", "more", "models", "learn")


def png(colour: str, side: int, **more: Any) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(file, "PNG", **more)
    return file.getvalue()


def ours(url: str, server: str) -> bool:
    return url.startswith((server, server.replace("http", "ws", 1), "data:", "blob:"))
