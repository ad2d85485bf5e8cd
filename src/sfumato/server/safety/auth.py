"""Finds out who sends a request, by its token or password."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict, defaultdict, deque
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from sfumato.errors import SfumatoError
from sfumato.server.config import LOOPBACK, Config
from sfumato.server.safety.refusal import refuse
from sfumato.server.safety.users import Users

OPEN = ("/livez", "/readyz")  # what everybody may ask
SIGNED = "/v1/images/files/"  # beginning of addresses that hold a key of their own
COOKIE = "sfumato"
MIN_TOKEN = 8
TRIES, PER_SECONDS = 10, 60.0  # wrong credentials that an address may send
KEPT = 1024  # credentials that were right, and sessions


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

    def __init__(self, app: ASGIApp, config: Config):
        self._app, self._token = app, config.token
        self._users = None if config.users is None else Users(config.users)
        # Credentials by their hash, and sessions: with the user, and the hash of the password that was right then.
        self._right: OrderedDict[str, tuple[str, str]] = OrderedDict()
        self._wrong: dict[str, deque[float]] = defaultdict(deque)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        nobody = self._token is None and self._users is None
        if nobody or scope["type"] not in ("http", "websocket") or _is_open(scope["path"]):
            await self._app(scope, receive, send)
            return
        address = scope["client"][0] if scope.get("client") else ""
        if self._tried_too_often(address):
            wait = {"Retry-After": f"{PER_SECONDS:.0f}"}
            await refuse(scope, receive, send, 429, "too many wrong tokens or passwords; wait a minute", wait)
            return
        given = _query_token(scope)
        user = None
        for credential in ([given] if given else []) + _credentials(Headers(scope=scope)):
            if (user := await self._user(credential)) is not None:
                break
            self._wrong[address].append(time.monotonic())
        if user is None and (session := _cookie(Headers(scope=scope))) is not None:
            user = self._user_of(session)
        if user is None:
            # A script of our page shows its own form; asked by this header, the browser would show one of its own.
            by_script = Headers(scope=scope).get("sec-fetch-dest") == "empty"
            ask = {} if by_script else {"WWW-Authenticate": 'Basic realm="sfumato", charset="UTF-8"'}
            message = "a token or password is needed; send `Authorization: Bearer TOKEN`, or name and password"
            await refuse(scope, receive, send, 401, message, ask)
        elif given and scope["type"] == "http" and scope["method"] == "GET":
            await self._with_cookie(user, scope, receive, send)
        else:
            scope.setdefault("state", {})["user"] = user
            await self._app(scope, receive, send)

    async def _user(self, credential: str) -> str | None:
        """Returns the user of a credential, "" for the token; None for a wrong one."""
        if self._token is not None:
            given = credential.rpartition(":")[2] if ":" not in self._token else credential
            if any(hmac.compare_digest(one.encode(), self._token.encode()) for one in (given, credential)):
                return ""
        name, colon, password = credential.partition(":")
        if self._users is None or not colon:
            return None
        # A changed password must not be right any longer: the hash of the file is part of the key.
        hash = self._hash(name)
        key = hashlib.sha256(f"{hash}\0{credential}".encode()).hexdigest()
        if key not in self._right:
            if not await asyncio.to_thread(self._users.verify, name, password):
                return None
            self._keep(key, name)
        return name

    def _user_of(self, session: str) -> str | None:
        """Returns the user of a session; None for an unknown one, and after the user's password was changed."""
        user, hash = self._right.get("session " + session, (None, ""))
        return user if user is not None and hash == self._hash(user) else None

    def _hash(self, user: str) -> str:
        """Returns the hash of a user's password as it is now, "" for nobody and for the token."""
        return "" if self._users is None else self._users.hashes().get(user, "")

    async def _with_cookie(self, user: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Redirects to the same address without the token, so that it does not stay in histories and logs."""
        session = secrets.token_urlsafe(32)
        self._keep("session " + session, user)
        left = [(name, value) for name, value in parse_qsl(scope["query_string"].decode("latin-1")) if name != "token"]
        path = "/" + scope["path"].lstrip("/\\")
        reply = RedirectResponse(path + ("?" + urlencode(left) if left else ""), 303)
        reply.set_cookie(COOKIE, session, httponly=True, samesite="strict")
        await reply(scope, receive, send)

    def _keep(self, key: str, user: str) -> None:
        self._right[key] = user, self._hash(user)
        while len(self._right) > KEPT:
            self._right.popitem(last=False)

    def _tried_too_often(self, address: str) -> bool:
        tries, now = self._wrong.get(address), time.monotonic()
        if tries is None:
            return False
        while tries and tries[0] < now - PER_SECONDS:
            tries.popleft()
        if not tries:
            del self._wrong[address]
        return len(tries) >= TRIES


def _is_open(path: str) -> bool:
    return path in OPEN or path.startswith(SIGNED)


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
