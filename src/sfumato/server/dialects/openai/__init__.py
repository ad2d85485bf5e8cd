"""OpenAI's images API: its clients draw here if their base URL is that of this server with /v1."""

from __future__ import annotations

from sfumato.server.dialects.base import Dialect
from sfumato.server.dialects.openai.errors import error
from sfumato.server.dialects.openai.routes import router

OPENAI = Dialect("openai", router, ("/v1/",), error, malformed=400)
