"""The dialects: the APIs by which clients talk to the server, all on one port."""

from __future__ import annotations

from sfumato.server.dialects.a1111 import A1111_API
from sfumato.server.dialects.base import Dialect
from sfumato.server.dialects.comfyui import COMFYUI
from sfumato.server.dialects.openai import OPENAI
from sfumato.server.dialects.own import OWN
from sfumato.server.dialects.page import PAGE

DIALECTS: tuple[Dialect, ...] = (COMFYUI, OWN, A1111_API, OPENAI, PAGE)


def dialect_of(path: str) -> Dialect:
    """Returns the dialect to which an address belongs; sfumato's own if it belongs to none."""
    return next((one for one in DIALECTS if any(path.startswith(prefix) for prefix in one.prefixes)), OWN)
