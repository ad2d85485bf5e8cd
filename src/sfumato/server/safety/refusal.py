"""What a client is told that is refused before any route hears of it."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from sfumato.server.dialects import dialect_of


async def refuse(
    scope: Scope, receive: Receive, send: Send, status: int, message: str, headers: Mapping[str, str] | None = None
) -> None:
    """Answers in the words of the dialect that was called; a WebSocket is not accepted."""
    reply = JSONResponse(dialect_of(scope["path"]).error(status, message), status, headers)
    if scope["type"] == "http" or "websocket.http.response" in scope.get("extensions", {}):
        await reply(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": 1008, "reason": message[:100]})
