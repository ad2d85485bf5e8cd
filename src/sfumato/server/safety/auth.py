"""Finds out who sends a request, by its token or password."""

from __future__ import annotations

import base64
import binascii
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from sfumato.errors import SfumatoError
from sfumato.server.config import LOOPBACK, Config
from sfumato.server.safety.refusal import refuse
from sfumato.server.safety.sessions import COOKIE, TOO_OFTEN, WAIT, Sessions, address_of

OPEN = ("/livez", "/readyz", "/login")  # what everybody may ask
SIGNED = "/v1/images/files/"  # beginning of addresses that hold a key of their own
MIN_TOKEN = 8


def check_listening(config: Config) -> None:
    """Raises SfumatoError for a server that other machines could reach without a token or password."""
    if config.token is not None and len(config.token) < MIN_TOKEN:
        raise SfumatoError(f"the token has {len(config.token)} characters; choose one of {MIN_TOKEN} or more")
    if config.host not in LOOPBACK and config.token is None and config.users is None:
        raise SfumatoError(
            f"listening on {config.host} lets other machines in; protect the server with --token or --users"
        )


class Auth:
    """Lets requests through that have the token or a user's password; `scope["state"]["user"]` is then the user.

    The token, or "name:password", may come as Bearer, as Basic (the token as password of any name), or as `?token=`,
    which the reply replaces by a cookie that does not contain it.
    """

    def __init__(self, app: ASGIApp, sessions: Sessions):
        self._app, self._sessions = app, sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sessions = self._sessions
        if sessions.everybody or scope["type"] not in ("http", "websocket") or _is_open(scope["path"]):
            await self._app(scope, receive, send)
            return
        address = address_of(scope)
        if sessions.tried_too_often(address):
            await refuse(scope, receive, send, 429, TOO_OFTEN, WAIT)
            return
        given, headers = _query_token(scope), Headers(scope=scope)
        if _is_page(scope) and not given and "authorization" not in headers:
            await self._app(scope, receive, send)
            return
        user = None
        for credential in ([given] if given else []) + _credentials(headers):
            if (user := await sessions.user(credential, address)) is not None:
                break
        if user is None and (session := _cookie(headers)) is not None:
            user = sessions.user_of(session)
        if user is None:
            # Our page has a form of its own; asked by this header, the browser would show another one before it.
            ask = {} if _by_browser(headers) else {"WWW-Authenticate": 'Basic realm="sfumato", charset="UTF-8"'}
            message = "a token or password is needed; send `Authorization: Bearer TOKEN`, or name and password"
            message += ", or log in at the server's first page, /"
            await refuse(scope, receive, send, 401, message, ask)
        elif given and scope["type"] == "http" and scope["method"] == "GET":
            await self._with_cookie(user, scope, receive, send)
        else:
            scope.setdefault("state", {})["user"] = user
            await self._app(scope, receive, send)

    async def _with_cookie(self, user: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Redirects to the same address without the token, so that it does not stay in histories and logs."""
        left = [(name, value) for name, value in parse_qsl(scope["query_string"].decode("latin-1")) if name != "token"]
        path = "/" + scope["path"].lstrip("/\\")
        reply = RedirectResponse(path + ("?" + urlencode(left) if left else ""), 303)
        self._sessions.set_cookie(reply, user)
        await reply(scope, receive, send)


def _is_open(path: str) -> bool:
    return path in OPEN or path.startswith(SIGNED)


def _is_page(scope: Scope) -> bool:
    """Whether a file of our page is asked for: these hold nothing of anybody, and the page shows a form to log in."""
    path = scope["path"]
    return scope["type"] == "http" and scope["method"] in ("GET", "HEAD") and (path == "/" or path.startswith("/web/"))


def _by_browser(headers: Headers) -> bool:
    return headers.get("sec-fetch-dest") == "empty" or "text/html" in headers.get("accept", "")


def _query_token(scope: Scope) -> str | None:
    said = parse_qsl(scope["query_string"].decode("latin-1"), max_num_fields=200) if b"token=" in scope[
        "query_string"] else []  # fmt: skip
    return next((value for name, value in said if name == "token"), None)


def _credentials(headers: Headers) -> list[str]:
    """Returns the credentials in the header Authorization: a token, or "name:password"."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and value.strip():
        return [value.strip()]
    if scheme.lower() == "basic":
        try:
            return [base64.b64decode(value.strip(), validate=True).decode()]
        except (binascii.Error, UnicodeDecodeError, ValueError):
            return [""]
    return []


def _cookie(headers: Headers) -> str | None:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return None if found is None else found.value
