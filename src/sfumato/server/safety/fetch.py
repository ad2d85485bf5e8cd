"""Fetches pictures from web addresses, where whoever runs the server allows it, and never from its own network."""

from __future__ import annotations

import http.client
import ipaddress
import os
import socket
import ssl
import time
from urllib.parse import urljoin, urlsplit

from sfumato.errors import SfumatoError
from sfumato.user_config import TRUE, forbid_offline

MAX_BYTES = 32 << 20
SECONDS = 20.0  # for all of it
REDIRECTS = 3
_EMBEDDING = [ipaddress.ip_network(net) for net in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")]
"""IPv6 networks whose addresses hold one of IPv4, which may be private."""


def fetch_if_allowed(url: str, what: str = "the picture") -> bytes:
    """Calls `fetch` if `SFUMATO_FETCH` allows it, which `sfumato serve --fetch` sets. Raises SfumatoError if not."""
    if os.environ.get("SFUMATO_FETCH", "").lower() not in TRUE:
        raise SfumatoError(f"{what} is a web address, and this server fetches none; send the picture in base64")
    forbid_offline("a picture's web address")
    return fetch(url, what)


def fetch(url: str, what: str = "the picture") -> bytes:
    """Returns the bytes at an address. Raises SfumatoError if it is not public, or the reply too large or too slow.

    The name is resolved once and the connection goes to the address that was checked, after redirects as well.
    """
    until = time.monotonic() + SECONDS
    try:
        for _ in range(REDIRECTS + 1):
            content, further = _get(url, what, until)
            if further is None:
                return content
            url = urljoin(url, further)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise SfumatoError(f"{what} cannot be fetched: {error}; send it in base64") from None
    raise SfumatoError(f"{what} is behind more than {REDIRECTS} redirects; send it in base64")


def _get(url: str, what: str, until: float) -> tuple[bytes, str | None]:
    """Returns the content at an address, or the address that it redirects to."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise SfumatoError(f"{what} is at no http or https address; send it in base64")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    target = parts._replace(scheme="", netloc="", fragment="").geturl() or "/"
    connection = http.client.HTTPConnection(parts.hostname, port)
    with _connected(parts.scheme, parts.hostname, public_address(parts.hostname, port, what), port, until) as line:
        connection.sock = line
        connection.request("GET", target, headers={"Accept": "image/*", "User-Agent": "sfumato"})
        reply = connection.getresponse()
        if reply.status in (301, 302, 303, 307, 308) and (further := reply.getheader("Location")):
            return b"", further
        if reply.status != 200:
            raise SfumatoError(f"{what} cannot be fetched: its server answers {reply.status}; send it in base64")
        return _body(reply, line, what, until), None


def _connected(scheme: str, host: str, address: str, port: int, until: float) -> socket.socket:
    line = socket.create_connection((address, port), timeout=_left(until))
    return ssl.create_default_context().wrap_socket(line, server_hostname=host) if scheme == "https" else line


def _body(reply: http.client.HTTPResponse, line: socket.socket, what: str, until: float) -> bytes:
    content = bytearray()
    while chunk := reply.read1(1 << 16):
        content += chunk
        if len(content) > MAX_BYTES:
            raise SfumatoError(f"{what} has more than {MAX_BYTES:,} bytes; send a smaller one")
        line.settimeout(_left(until))
    return bytes(content)


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError(f"it takes longer than {SECONDS:.0f} seconds")
    return left


def public_address(host: str, port: int, what: str) -> str:
    """Returns the IP address of a name. Raises SfumatoError if any of its addresses is not public."""
    found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    if not found or not all(map(_is_public, found)):
        raise SfumatoError(f"{what} is at {host[:80]}, which is no public address; send it in base64")
    return found[0]


def _is_public(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and (inner := address.ipv4_mapped) is not None:
        address = inner
    hidden = any(address in net for net in _EMBEDDING)
    return address.is_global and not address.is_multicast and not address.is_reserved and not hidden
