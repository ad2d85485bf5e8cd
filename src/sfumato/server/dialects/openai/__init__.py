"""OpenAI's images API: its clients draw here when their base URL ends in /v1 of this server."""

from __future__ import annotations

from sfumato.server.dialects.base import Dialect
from sfumato.server.dialects.openai.errors import error
from sfumato.server.dialects.openai.routes import router

OPENAI = Dialect("openai", router, ("/v1/",), error, malformed=400)
