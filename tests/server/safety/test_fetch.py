"""Pictures from addresses: public ones only, within limits."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator

import pytest

from sfumato.errors import SfumatoError
from sfumato.server.safety import fetch as fetching
from sfumato.server.safety.fetch import fetch

PRIVATE = (
    "127.0.0.1", "127.1.2.3", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "224.0.0.1", "255.255.255.255", "[::1]", "[::]", "[fe80::1]", "[fd00::1]", "[::ffff:127.0.0.1]",
    "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "2130706433", "0x7f000001", "localhost",
)  # fmt: skip


class _Site(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
            return
        self.send_response(200 if self.path != "/gone" else 404)
        self.end_headers()
        self.wfile.write(b"x" * (5000 if self.path == "/large" else 10))

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A site by a name whose address counts as public; any other name is as it is."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    resolve, public = socket.getaddrinfo, fetching._is_public
    pretend = "203.0.113.7"

    def resolved(host: str, port: int, *args: object, **more: object) -> list:
        if host == "site.example":
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (pretend, port))]
        return resolve(host, port, *args, **more)

    connect = socket.create_connection
    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    monkeypatch.setattr(fetching, "_is_public", lambda text: text == pretend or public(text))
    monkeypatch.setattr(
        socket, "create_connection",
        lambda address, timeout: connect(("127.0.0.1" if address[0] == pretend else address[0], address[1]), timeout),
    )  # fmt: skip
    yield f"http://site.example:{server.server_address[1]}"
    server.shutdown()


@pytest.mark.parametrize("host", PRIVATE)
def test_private_addresses_are_refused(host: str) -> None:
    with pytest.raises(SfumatoError, match=r"no public address|cannot be fetched"):
        fetch(f"http://{host}/a.png")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://a/b", "http://", "http://me:you@site.example/", "x"])
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(SfumatoError):
        fetch(url)


def test_a_public_picture_is_fetched(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fetch(site + "/a") == b"x" * 10 == fetch(f"{site}/to/{site}/a") == fetch(site + "/to//a")
    with pytest.raises(SfumatoError, match="404"):
        fetch(site + "/gone")
    monkeypatch.setattr(fetching, "MAX_BYTES", 1000)
    with pytest.raises(SfumatoError, match="more than 1,000 bytes"):
        fetch(site + "/large")


@pytest.mark.parametrize("further", ["http://127.0.0.1/a", "http://169.254.169.254/latest", "file:///etc/passwd"])
def test_redirects_lead_to_no_private_address(site: str, further: str) -> None:
    with pytest.raises(SfumatoError):
        fetch(f"{site}/to/{further}")
    with pytest.raises(SfumatoError, match="redirects"):
        fetch(site + "/to" * 8 + "/a")


def test_a_name_with_a_private_address_among_public_ones_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the name might be resolved to the other one when the connection is made."""
    both = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 80)) for one in ("8.8.8.8", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    with pytest.raises(SfumatoError, match="no public address"):
        fetch("http://rebinding.example/")
