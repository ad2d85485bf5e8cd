"""Starts a server, and locks its folder against a second one."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from sfumato.errors import SfumatoError
from sfumato.server.app import create_app
from sfumato.server.config import Config
from sfumato.server.queue import Queue
from sfumato.server.safety.connections import MAX_CONNECTIONS, MAX_MESSAGE, Patient

LOCK = "server.lock"


@contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Locks a server's folder and yields an open file, into which the server's address is written.

    Raises SfumatoError if another server has locked it, or if it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SfumatoError(f"cannot write to {folder}: {error.strerror}; choose another folder") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise SfumatoError(f"another server uses {folder}; stop it, or give this one a folder of its own") from None
    try:
        os.ftruncate(handle, 0)
        yield handle
    finally:
        os.close(handle)


def listening(config: Config, app: FastAPI) -> uvicorn.Config:
    """Returns uvicorn's settings for an application."""
    return uvicorn.Config(
        app, host=config.host, port=config.port, log_level="warning", timeout_keep_alive=30,
        timeout_graceful_shutdown=5, h11_max_incomplete_event_size=64 * 1024, http=Patient, ws_max_size=MAX_MESSAGE,
        limit_concurrency=MAX_CONNECTIONS, server_header=False,
    )  # fmt: skip


def running(folder: Path) -> str | None:
    """Returns the address of the server that uses a folder; None if there is none, or if it does not listen yet."""
    try:
        with (folder / LOCK).open("r+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return file.read().strip() or None
    except OSError:
        pass
    return None


def serve(config: Config, started: Callable[[str], None]) -> None:
    """Serves until it is told to stop; calls `started` with the address. Raises SfumatoError if it cannot start."""
    with locked(config.folder) as lock:

        def listens(address: str) -> None:
            os.write(lock, address.encode())
            started(address)

        app = create_app(config)
        server = _Server(listening(config, app), listens, app.state.queue)
        server.run()
        if not server.started:
            raise SfumatoError(f"cannot listen on {config.host}:{config.port}; is it taken? choose another --port")


class _Server(uvicorn.Server):
    """A uvicorn server that reports when it listens, and lets running jobs finish before it stops."""

    def __init__(self, config: uvicorn.Config, started: Callable[[str], None], queue: Queue):
        super().__init__(config)
        self._said, self._queue = started, queue

    async def shutdown(self, sockets: list | None = None) -> None:
        await self._queue.drain()
        await super().shutdown(sockets)

    async def startup(self, sockets: list | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            host = self.config.host if ":" not in self.config.host else f"[{self.config.host}]"
            port = self.servers[0].sockets[0].getsockname()[1]
            self._said(f"http://{host}:{port}")
