"""Who is let in, by which name, with how much: each guard before a little application."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.types import ASGIApp
from starlette.websockets import WebSocket
from typer.testing import CliRunner

from sfumato.cli.main import app
from sfumato.errors import SfumatoError
from sfumato.server.app import create_app
from sfumato.server.config import Config
from sfumato.server.safety import sessions
from sfumato.server.safety.auth import Auth
from sfumato.server.safety.connections import Patient
from sfumato.server.safety.hosts import Hosts
from sfumato.server.safety.limits import MAX_DEPTH, MAX_VALUES, Limits
from sfumato.server.safety.sessions import Sessions
from sfumato.server.safety.users import Users, add_user, read_users

TOKEN = "open sesame"


async def echo(request: Request) -> JSONResponse:
    return JSONResponse({"user": getattr(request.state, "user", None), "bytes": len(await request.body())})


async def talk(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text(getattr(socket.state, "user", "nobody"))
    await socket.close()


PLAIN = Starlette(
    routes=[
        Route("/api/echo", echo, methods=["GET", "POST"]),
        Route("/livez", echo),
        WebSocketRoute("/api/ws", talk),
    ]
)


def calling(app: ASGIApp, address: str = "http://127.0.0.1:7860") -> TestClient:
    return TestClient(app, base_url=address, follow_redirects=False)


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("users") / "users"
    add_user(path, "ada", "correct horse")
    add_user(path, "bob", "battery staple")
    return path


def test_a_server_for_others_asks_who_they_are(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "192.168.1.4", "::"):
        with pytest.raises(SfumatoError, match="--token or --users"):
            create_app(Config(folder=tmp_path, host=host))
    with pytest.raises(SfumatoError, match="6 characters"):
        create_app(Config(folder=tmp_path, token="secret"))


def test_the_token_comes_in_by_every_door() -> None:
    client = calling(Auth(PLAIN, Sessions(Config(token=TOKEN))))
    assert client.get("/livez").status_code == 200
    refused = client.get("/api/echo")
    assert refused.status_code == 401 and "Basic" in refused.headers["www-authenticate"] and refused.json()["error"]
    assert client.get("/api/echo", headers={"Authorization": "Bearer " + TOKEN}).json()["user"] == ""
    assert client.get("/api/echo", auth=("anybody", TOKEN)).json()["user"] == ""
    for wrong in ("Bearer " + TOKEN[:-1], "Bearer", "Basic !!!", "Basic " + "é".encode().hex(), TOKEN):
        assert client.get("/api/echo", headers={"Authorization": wrong}).status_code == 401


def test_our_page_asks_by_its_own_form_and_not_by_the_browsers() -> None:
    client = calling(Auth(PLAIN, Sessions(Config(token=TOKEN))))
    for path in ("/", "/web/index.js"):
        assert client.get(path).status_code != 401
    for path, method in (("/web", "get"), ("/", "post"), ("/docs", "get"), ("/?token=wrong", "get")):
        assert getattr(client, method)(path).status_code == 401, path
    assert client.get("/", headers={"Authorization": "Bearer wrong"}).status_code == 401
    for headers in ({"Accept": "text/html,*/*"}, {"Sec-Fetch-Dest": "empty"}):
        refused = client.get("/api/echo", headers=headers)
        assert refused.status_code == 401 and "www-authenticate" not in refused.headers
        assert "log in at the server's first page" in refused.json()["error"]


def test_a_page_gets_a_cookie_in_place_of_the_token() -> None:
    client = calling(Auth(PLAIN, Sessions(Config(token=TOKEN))))
    moved = client.get("/api/echo", params={"token": TOKEN, "a": "b c"})
    assert moved.status_code == 303 and moved.headers["location"] == "/api/echo?a=b+c"
    cookie = moved.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and TOKEN not in cookie
    assert client.get(moved.headers["location"]).json()["user"] == ""
    client.cookies.clear()
    assert client.get("/api/echo", headers={"Cookie": "sfumato=session"}).status_code == 401
    assert (
        calling(Auth(PLAIN, Sessions(Config(token=TOKEN)))).get("//evil.example/?token=" + TOKEN).headers["location"]
        == "/"
    )
    with client.websocket_connect("/api/ws?token=" + TOKEN) as open:
        assert open.receive_text() == ""


def test_users_are_told_apart(users: Path) -> None:
    client = calling(Auth(PLAIN, Sessions(Config(users=users))))
    assert client.get("/api/echo", auth=("ada", "correct horse")).json()["user"] == "ada"
    assert client.get("/api/echo", headers={"Authorization": "Bearer bob:battery staple"}).json()["user"] == "bob"
    for name, password in (("ada", "battery staple"), ("eve", "correct horse"), ("ada", ""), ("", "")):
        assert client.get("/api/echo", auth=(name, password)).status_code == 401
    with pytest.raises(WebSocketDenialResponse), client.websocket_connect("/api/ws"):
        pass


def test_a_changed_password_ends_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "users"
    add_user(path, "ada", "correct horse")
    client = calling(Auth(PLAIN, Sessions(Config(users=path))))
    assert client.get("/api/echo", auth=("ada", "correct horse")).status_code == 200
    add_user(path, "ada", "another horse")
    assert client.get("/api/echo", auth=("ada", "correct horse")).status_code == 401
    assert client.get("/api/echo", auth=("ada", "another horse")).status_code == 200
    assert path.stat().st_mode & 0o077 == 0


def test_a_changed_password_ends_the_sessions_of_its_user(tmp_path: Path) -> None:
    path = tmp_path / "users"
    add_user(path, "ada", "correct horse")
    add_user(path, "bob", "battery staple")
    client = calling(Auth(PLAIN, Sessions(Config(users=path))))
    assert client.get("/api/echo", params={"token": "ada:correct horse"}).status_code == 303
    assert client.get("/api/echo").json()["user"] == "ada"
    add_user(path, "bob", "another staple")
    assert client.get("/api/echo").json()["user"] == "ada"
    add_user(path, "ada", "another horse")
    assert client.get("/api/echo").status_code == 401


def test_guessing_is_slowed_down(monkeypatch: pytest.MonkeyPatch) -> None:
    client = calling(Auth(PLAIN, Sessions(Config(token=TOKEN))))
    for _ in range(sessions.TRIES):
        assert client.get("/api/echo", headers={"Authorization": "Bearer no"}).status_code == 401
    late = client.get("/api/echo", headers={"Authorization": "Bearer " + TOKEN})
    assert late.status_code == 429 and late.headers["retry-after"] == "60"
    monkeypatch.setattr(sessions, "PER_SECONDS", 0.0)
    assert client.get("/api/echo", headers={"Authorization": "Bearer " + TOKEN}).status_code == 200


def test_a_broken_file_of_users_is_named(tmp_path: Path) -> None:
    with pytest.raises(SfumatoError, match="user add"):
        Users(tmp_path / "none")
    (tmp_path / "users").write_text("ada:secret\n")
    with pytest.raises(SfumatoError, match="line 1"):
        read_users(tmp_path / "users")
    for name, password in (("a:b", "long enough"), ("../x", "long enough"), ("ada", "short")):
        with pytest.raises(SfumatoError):
            add_user(tmp_path / "more", name, password)


def test_users_are_added_by_a_command(tmp_path: Path) -> None:
    path = tmp_path / "users"
    added = CliRunner().invoke(app, ["serve", "user", "add", "ada", "--users", str(path)], input="long enough\n" * 2)
    assert added.exit_code == 0 and Users(path).verify("ada", "long enough"), added.output
    assert "long enough" not in path.read_text() + added.output


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("127.0.0.1:7860", None, 200),
        ("localhost:7860", "http://localhost:7860", 200),
        ("[::1]:7860", None, 200),
        ("studio.example", None, 200),
        ("127.0.0.1:7860", "https://page.example", 200),
        ("evil.example", None, 403),
        ("evil.example:7860", "http://evil.example:7860", 403),
        ("127.0.0.1.evil.example", None, 403),
        ("192.168.1.4:7860", None, 403),
        ("127.0.0.1:7860", "http://evil.example", 403),
        ("127.0.0.1:7860", "http://127.0.0.1:9999", 403),
        ("127.0.0.1:7860", "null", 403),
        ("[::1", None, 403),
        ("", None, 403),
    ],
)
def test_hosts_and_origins(host: str, origin: str | None, status: int) -> None:
    app = Hosts(PLAIN, Config(hosts=("studio.example",), origins=("https://page.example",)))
    headers = {"Host": host} | ({"Origin": origin} if origin else {})
    assert calling(app).get("/api/echo", headers=headers).status_code == status
    if status == 200:
        with calling(app).websocket_connect("/api/ws", headers=headers) as open:
            assert open.receive_text() == "nobody"
    else:
        with pytest.raises(WebSocketDenialResponse), calling(app).websocket_connect("/api/ws", headers=headers):
            pass


def test_addresses_are_names_of_a_server_that_listens_everywhere() -> None:
    app = Hosts(PLAIN, Config(host="0.0.0.0", token=TOKEN))
    assert calling(app).get("/api/echo", headers={"Host": "192.168.1.4:7860"}).status_code == 200
    assert calling(app).get("/api/echo", headers={"Host": "evil.example"}).status_code == 403


def test_only_named_pages_are_told_that_they_may_read(tmp_path: Path) -> None:
    client = calling(create_app(Config(folder=tmp_path, origins=("https://page.example",))))
    ours = client.get("/livez", headers={"Origin": "https://page.example"})
    assert ours.headers["access-control-allow-origin"] == "https://page.example"
    asked = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}
    assert client.options("/api/jobs", headers=asked).status_code == 200
    assert client.options("/api/jobs", headers={**asked, "Origin": "https://evil.example"}).status_code == 403


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"a": [1, 2.5, null, "\\u00e9 \\ud83d\\ude00"]}', 200),
        (b'{"a": NaN}', 400),
        (b'{"a": -Infinity}', 400),
        (b'{"a": 1e999}', 400),
        (b'{"a": ' + b"9" * 5000 + b"}", 400),
        (b'{"a": "\\ud800"}', 400),
        (b'{"\\udfff": 1}', 400),
        (b'{"a": "\xff"}', 400),
        (b"{", 400),
        (b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, 200),
        (b"[" * (MAX_DEPTH + 2) + b"]" * (MAX_DEPTH + 2), 400),
        (b"[" * 400_000 + b"]" * 400_000, 400),
        (b"[" + b"0," * MAX_VALUES + b"0]", 400),
        (b'"' + b'\\"' * 400_000, 400),
        (b"x" * 2_000_000, 413),
    ],
    ids=lambda value: str(value[:20] if isinstance(value, bytes) else value),
)
def test_bodies_of_json(body: bytes, status: int) -> None:
    client = calling(Limits(PLAIN, max_body=1_500_000))
    for kind in ("application/json", "application/x-www-form-urlencoded"):
        reply = client.post("/api/echo", content=body, headers={"Content-Type": kind})
        if kind == "application/json" or body[:1] in b"{[" or status == 413:
            assert reply.status_code == status and ("error" in reply.json()) == (status != 200), reply.text


def test_a_body_without_a_length_is_counted() -> None:
    def chunks() -> Iterator[bytes]:
        yield from [b"x" * 1000] * 20

    client = calling(Limits(PLAIN, max_body=10_000))
    assert client.post("/api/echo", content=chunks()).status_code == 413
    assert client.post("/api/echo", content=b"x" * 10_000).json()["bytes"] == 10_000
    assert client.get("/api/echo?" + "a" * 20_000).status_code == 414


def test_a_slow_body_is_not_waited_for() -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(5)
        yield b"}"

    async def call() -> int:
        transport = httpx.ASGITransport(Limits(PLAIN, pause=0.1))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return (await client.post("/api/echo", content=slow())).status_code

    assert asyncio.run(call()) == 408


def test_connections_without_a_request_are_closed() -> None:
    class Hasty(Patient):
        patience = 0.3

    server = uvicorn.Server(uvicorn.Config(PLAIN, port=0, log_level="critical", http=Hasty))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    address = server.servers[0].sockets[0].getsockname()
    try:
        for start in (b"", b"GET /livez HTT", b"GET /livez HTTP/1.1\r\nHost: a\r\n"):
            with socket.create_connection(address, timeout=60) as one:
                one.sendall(start)
                assert one.recv(100) == b""
        reply = httpx.get("http://{}:{}/livez".format(*address), timeout=120)
        assert reply.status_code == 200 and json.loads(reply.text)["user"] is None
    finally:
        server.should_exit = True
        thread.join(20)
