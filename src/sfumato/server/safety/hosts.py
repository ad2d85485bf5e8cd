"""Refuses requests that a browser sends for a page of another site, by the headers Host and Origin."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from sfumato.server.config import LOOPBACK, Config
from sfumato.server.safety.refusal import refuse

ANYWHERE = ("0.0.0.0", "::", "")


class Hosts:
    """Lets requests through that call the server by one of its names, and come from its own page or from no page.

    That keeps out a site whose name was made to point at this machine (DNS rebinding), and the pages of other sites
    except those in `Config.origins`.
    """

    def __init__(self, app: ASGIApp, config: Config):
        self._app, self._config = app, config
        self._origins = {origin.rstrip("/").lower() for origin in config.origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and (why := self._wrong(Headers(scope=scope))):
            await refuse(scope, receive, send, 403, why)
            return
        await self._app(scope, receive, send)

    def _wrong(self, headers: Headers) -> str | None:
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or len(origins) > 1:
            return "a request must have one Host header, and at most one Origin header"
        if not self._is_ours(_name(hosts[0])):
            return f"this server is not called {hosts[0][:80]!r}; allow that name with --allow-host"
        if not origins or origins[0].lower() in self._origins:
            return None
        try:
            place = urlsplit(origins[0]).netloc.lower()
        except ValueError:
            place = ""
        if place == hosts[0].lower():
            return None
        return f"pages of {origins[0][:80]!r} may not call this server; allow them with --origin"

    def _is_ours(self, name: str) -> bool:
        if name in LOOPBACK or name in (self._config.host.lower(), *(host.lower() for host in self._config.hosts)):
            return True
        return self._config.host in ANYWHERE and _is_address(name)


def _name(host: str) -> str:
    """The name or address in what stands in Host, without the port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    """Whether a name is an address in numbers, which no other site can make its own."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
