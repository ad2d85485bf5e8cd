"""The server's connection to a worker: starts it, listens to it, and restarts it when it dies or hangs."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from sfumato.server.config import Config
from sfumato.server.logs import LOGGER
from sfumato.server.worker.messages import HEAD_SIZE, lengths, packed, unpacked

SILENCE = 30.0  # seconds without a sign of life, after which a worker is taken for dead
PAUSE = 1.0  # seconds before a worker that died is started anew; doubles while it keeps dying
LONGEST_PAUSE = 60.0
log = logging.getLogger(LOGGER)
Heard = Callable[["Link", Mapping[str, Any], bytes], Awaitable[None]]


class Link(ABC):
    """A worker as the server sees it.

    `heard` is called with every message, and with {"say": "died"} when the worker ended. `models` are those that it
    has loaded, `device` is None until it is ready.
    """

    def __init__(self, config: Config, device: str | None, heard: Heard):
        self._settings = worker_settings(config, device)
        self._heard = heard
        self._task: asyncio.Task[None] | None = None
        self._last = time.monotonic()
        self.device: str | None = None
        self.models: list[str] = []
        self.bytes = 0

    @property
    def ready(self) -> bool:
        return self.device is not None

    def start(self) -> None:
        """Starts the worker, and keeps one running until `stop`."""
        self._task = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Ends the worker; its running jobs are stopped."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    @abstractmethod
    async def send(self, message: Mapping[str, Any]) -> None:
        """Sends a command. If the worker has just died, the command is lost; its jobs start again anyway."""

    @abstractmethod
    async def _run(self) -> None:
        """Starts a worker, gives `_hear` what it says until it ends, and leaves none running, also when cancelled."""

    @abstractmethod
    def _kill(self) -> None:
        """Ends the worker at once, so that `_run` returns."""

    async def _keep(self) -> None:
        pause = PAUSE
        while True:
            began = self._last = time.monotonic()
            watch = asyncio.create_task(self._watch())
            try:
                await self._run()
            except Exception:  # such as a full disk: what a worker says cannot be written down
                log.exception("a worker cannot be run")
            finally:
                watch.cancel()
            self.device, self.models, self.bytes = None, [], 0
            await self._heard(self, {"say": "died"}, b"")
            pause = PAUSE if time.monotonic() - began > LONGEST_PAUSE else min(2 * pause, LONGEST_PAUSE)
            await asyncio.sleep(pause)

    async def _hear(self, message: Mapping[str, Any], payload: bytes) -> None:
        self._last = time.monotonic()
        match message["say"]:
            case "alive":
                return
            case "ready":
                self.device = message["device"]
            case "models":
                self.models, self.bytes = message["models"], message["bytes"]
        await self._heard(self, message, payload)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(1)
            if self.ready and time.monotonic() - self._last > SILENCE:
                log.error("a worker gave no sign of life for %.0f seconds; it is started anew", SILENCE)
                self._kill()


class ProcessLink(Link):
    """A worker that is a process of this machine."""

    _process: asyncio.subprocess.Process | None = None

    async def send(self, message: Mapping[str, Any]) -> None:
        """Sends a command down the pipe."""
        if self._process is None or self._process.stdin is None:
            return
        with suppress(ConnectionError):
            self._process.stdin.write(packed(message))
            await self._process.stdin.drain()

    async def _run(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "sfumato.server.worker.process", json.dumps(self._settings),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "SFUMATO_CONFINED": "1"},
            start_new_session=True,  # Ctrl-C is for the server, which then lets pictures be finished
        )  # fmt: skip
        try:
            await self._listen(self._process)
        finally:
            self._kill()
            await self._process.wait()
            self._process = None

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        pipe = process.stdout
        assert pipe is not None
        with suppress(asyncio.IncompleteReadError):
            while True:
                text, payload = lengths(await pipe.readexactly(HEAD_SIZE))
                await self._hear(*unpacked(await pipe.readexactly(text), await pipe.readexactly(payload)))

    def _kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)


def worker_settings(config: Config, device: str | None) -> dict[str, Any]:
    """Returns the settings of a worker on a device, for JSON."""
    return {
        "device": device,
        "dtype": config.dtype,
        "memory": config.memory,
        "exact": config.exact,
        "safety": config.safety,
        "credentials": [*map(str, config.credentials or ())],
        "inputs": str(config.inputs),
        "outputs": str(config.outputs),
    }
