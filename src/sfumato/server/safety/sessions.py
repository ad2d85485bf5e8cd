"""Knows whose credentials are right, and who signed in."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict, defaultdict, deque

from starlette.responses import Response
from starlette.types import Scope

from sfumato.server.config import Config
from sfumato.server.safety.users import Users

COOKIE = "sfumato"
TRIES, PER_SECONDS = 10, 60.0  # wrong credentials that an address may send
KEPT = 1024  # credentials that were right, and sessions
TOO_OFTEN = "too many wrong tokens or passwords; wait a minute"
WAIT = {"Retry-After": f"{PER_SECONDS:.0f}"}


class Sessions:
    """Knows which credentials are right and whose they are, and who signed in with a cookie."""

    def __init__(self, config: Config):
        self._token = config.token
        self._users = None if config.users is None else Users(config.users)
        # Credentials by their hash, and sessions: with the user, and the hash of the password that was right then.
        self._right: OrderedDict[str, tuple[str, str]] = OrderedDict()
        self._wrong: dict[str, deque[float]] = defaultdict(deque)

    @property
    def everybody(self) -> bool:
        """Whether the server lets everybody in."""
        return self._token is None and self._users is None

    async def user(self, credential: str, address: str) -> str | None:
        """Returns the user of a credential, "" for the token; None for a wrong one, which counts against the address.

        A credential is a token or "name:password".
        """
        user = await self._user(credential)
        if user is None:
            self._wrong[address].append(time.monotonic())
        return user

    def user_of(self, session: str) -> str | None:
        """Returns the user of a session; None for an unknown one, and after the user's password was changed."""
        user, hash = self._right.get("session " + session, (None, ""))
        return user if user is not None and hash == self._hash(user) else None

    def set_cookie(self, reply: Response, user: str) -> None:
        """Begins a session: a browser sends its cookie in place of the credential, which the cookie does not hold."""
        session = secrets.token_urlsafe(32)
        self._keep("session " + session, user)
        reply.set_cookie(COOKIE, session, httponly=True, samesite="strict")

    def tried_too_often(self, address: str) -> bool:
        """Returns whether an address sent too many wrong credentials in the last minute."""
        tries, now = self._wrong.get(address), time.monotonic()
        if tries is None:
            return False
        while tries and tries[0] < now - PER_SECONDS:
            tries.popleft()
        if not tries:
            del self._wrong[address]
        return len(tries) >= TRIES

    async def _user(self, credential: str) -> str | None:
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

    def _hash(self, user: str) -> str:
        """Returns the hash of a user's password as it is now, "" for nobody and for the token."""
        return "" if self._users is None else self._users.hashes().get(user, "")

    def _keep(self, key: str, user: str) -> None:
        self._right[key] = user, self._hash(user)
        while len(self._right) > KEPT:
            self._right.popitem(last=False)


def address_of(scope: Scope) -> str:
    """Returns the network address that a request came from; "" if it is not known."""
    return scope["client"][0] if scope.get("client") else ""
