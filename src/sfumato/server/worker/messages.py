"""Messages between the server and a worker: a JSON object, and optional bytes."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

_HEAD = struct.Struct(">II")
Message = tuple[dict[str, Any], bytes]


def packed(message: Mapping[str, Any], payload: bytes = b"") -> bytes:
    """Returns a message as bytes for a pipe."""
    text = json.dumps(message).encode()
    return _HEAD.pack(len(text), len(payload)) + text + payload


def lengths(head: bytes) -> tuple[int, int]:
    """Returns how many bytes of text and of payload follow a head of HEAD_SIZE bytes."""
    text, payload = _HEAD.unpack(head)
    return text, payload


def unpacked(text: bytes, payload: bytes) -> Message:
    """Returns the message in these bytes."""
    return json.loads(text), payload


def read_message(pipe: BinaryIO) -> Message | None:
    """Waits for the next message and returns it; None if the other end is closed."""
    head = pipe.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    text, payload = lengths(head)
    return unpacked(pipe.read(text), pipe.read(payload))


HEAD_SIZE = _HEAD.size
