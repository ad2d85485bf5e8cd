"""Limits requests: their size, the time they take, and what their JSON may contain."""

from __future__ import annotations

import asyncio
import json
from typing import Any, NoReturn

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sfumato.server.safety.refusal import refuse

MAX_BODY = 64 << 20  # bytes of a request
MAX_HELD = 512 << 20  # bytes of all requests that are being received or answered
PAUSE, WHOLE = 15.0, 120.0  # seconds without a byte, and for a whole body
MAX_DEPTH = 64  # of lists and objects in each other
MAX_VALUES = 500_000  # in a JSON
MAX_QUERY = 16 << 10
AT_ONCE = 1 << 16  # bytes that are looked at without a thread


class TooMuch(Exception):
    """A body beyond the limits, and the status that says so."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


class Limits:
    """Receives every body before the application hears of the request, and refuses what is beyond the limits."""

    def __init__(self, app: ASGIApp, max_body: int = MAX_BODY, pause: float = PAUSE, whole: float = WHOLE):
        self._app, self._max_body, self._pause, self._whole = app, max_body, pause, whole
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        chunks: list[bytes] = []
        try:
            whole = await self._receive(scope, receive, chunks)
            body = b"".join(chunks)
            if whole and body and _is_json(scope, body):
                await (asyncio.to_thread(check_json, body) if len(body) > AT_ONCE else _checked_here(body))
        except TooMuch as error:
            # What is left unread of the body must not be taken for the next request.
            await refuse(scope, receive, send, error.status, str(error), {"Connection": "close"})
        else:
            if whole:
                await self._app(scope, _replayed(body, receive), send)
        finally:
            self._held -= sum(map(len, chunks))

    async def _receive(self, scope: Scope, receive: Receive, chunks: list[bytes]) -> bool:
        """Receives a body into `chunks`; whether it came whole. Raises TooMuch."""
        length = Headers(scope=scope).get("content-length", "0")
        if len(scope["query_string"]) > MAX_QUERY:
            raise TooMuch(414, f"the address is longer than {MAX_QUERY:,} bytes; send what is long in the body")
        if not length.isascii() or not length.isdigit() or int(length[:20]) > self._max_body:
            raise self._too_large()
        try:
            async with asyncio.timeout(self._whole):
                size, more = 0, True
                while more:
                    async with asyncio.timeout(self._pause):
                        message = await receive()
                    if message["type"] == "http.disconnect":
                        return False
                    chunk, more = message.get("body", b""), message.get("more_body", False)
                    chunks.append(chunk)
                    size += len(chunk)
                    self._held += len(chunk)
                    if size > self._max_body:
                        raise self._too_large()
                    if self._held > MAX_HELD:
                        raise TooMuch(429, "the server receives too much at once; send the request again later")
        except TimeoutError:
            raise TooMuch(408, "the request came too slowly; send it again") from None
        return True

    def _too_large(self) -> TooMuch:
        return TooMuch(413, f"the request is larger than {self._max_body:,} bytes; send smaller pictures")


def _is_json(scope: Scope, body: bytes) -> bool:
    """Returns whether a body is declared as JSON or looks like it; some clients declare theirs as a form."""
    return "json" in Headers(scope=scope).get("content-type", "") or body[:64].lstrip()[:1] in (b"{", b"[")


async def _checked_here(body: bytes) -> None:
    check_json(body)


def check_json(body: bytes) -> None:
    """Raises TooMuch for JSON that is broken or nested too deeply, and for numbers and texts that are none.

    Those are NaN, Infinity, numbers beyond what a float holds, and halves of characters (lone surrogates).
    """
    if sum(map(body.count, (b",", b"[", b"{", b":"))) > MAX_VALUES:
        raise TooMuch(400, f"the JSON has more than {MAX_VALUES:,} values; send fewer")
    try:
        level = [json.loads(body, parse_constant=_no_number, parse_float=_finite)]
    except (ValueError, RecursionError) as error:
        raise TooMuch(400, f"the body is not valid JSON: {error}"[:300]) from None
    for _ in range(MAX_DEPTH + 1):
        level = [inner for value in level for inner in _inner(value)]
        if not level:
            return
    raise TooMuch(400, f"the JSON nests lists and objects more than {MAX_DEPTH} deep; make it flatter")


def _inner(value: Any) -> list[Any]:
    """What is in a list or an object. Raises TooMuch for a text that is none."""
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            message = "the JSON has half a character (a lone surrogate); send whole characters, in UTF-8"
            raise TooMuch(400, message) from None
    if isinstance(value, dict):
        return [*value, *value.values()]
    return value if isinstance(value, list) else []


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:40]} is too large a number")
    return value


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Returns a `receive` that gives the body in one message, then what the client sends next."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def given() -> Message:
        return first.pop() if first else await receive()

    return given
