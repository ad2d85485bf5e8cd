"""A live server that draws with the model that ships, shared by the tests of a process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import httpx
import pytest
import uvicorn

from sfumato.server.app import create_app
from sfumato.server.config import Config
from sfumato.server.serve import listening


@contextmanager
def serving(config: Config, port: int = 0) -> Iterator[str]:
    """The address of a server that runs as long as the `with`, on a free port by default; its worker is ready."""
    server = uvicorn.Server(listening(replace(config, port=port), create_app(config)))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.02)
    address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    while httpx.get(address + "/readyz", timeout=60).status_code != 200:
        time.sleep(0.05)
    try:
        yield address
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive(), "the server did not stop"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the live server."""
    with serving(Config(folder=tmp_path_factory.mktemp("server"))) as address:
        yield address


@pytest.fixture
def client(server: str) -> Iterator[httpx.Client]:
    """A client of the live server."""
    with httpx.Client(base_url=server, timeout=120) as one:
        yield one
