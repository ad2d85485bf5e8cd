"""The server's connection to a worker: starts it, listens to it, and restarts it when it dies or hangs."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
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


class Link:
    """A worker as the server sees it.

    `heard` is called with every message, and with {"say": "died"} when the process ended. `models` are those that it
    has loaded, `device` is None until it is ready.
    """

    def __init__(self, config: Config, device: str | None, heard: Heard):
        self._config, self._wanted, self._heard = config, device, heard
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._last = time.monotonic()
        self.device: str | None = None
        self.models: list[str] = []
        self.bytes = 0

    @property
    def ready(self) -> bool:
        return self.device is not None

    @property
    def pid(self) -> int | None:
        """The id of the process; None while there is none."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Starts the process, and keeps one running until `stop`."""
        self._task = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Ends the process; its running jobs are stopped."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._kill()

    def kill(self) -> None:
        """Ends the process at once; a new one is started."""
        self._kill()

    async def send(self, message: Mapping[str, Any]) -> None:
        """Sends a command. If the worker has just died, the command is lost; its jobs start again anyway."""
        if self._process is None or self._process.stdin is None:
            return
        with suppress(ConnectionError):
            self._process.stdin.write(packed(message))
            await self._process.stdin.drain()

    async def _keep(self) -> None:
        pause = PAUSE
        while True:
            began = time.monotonic()
            try:
                await self._run()
            except Exception:  # such as a full disk: what a worker says cannot be written down
                log.exception("a worker cannot be run")
            self.device, self.models, self.bytes = None, [], 0
            await self._heard(self, {"say": "died"}, b"")
            pause = PAUSE if time.monotonic() - began > LONGEST_PAUSE else min(2 * pause, LONGEST_PAUSE)
            await asyncio.sleep(pause)

    async def _run(self) -> None:
        config = self._config
        settings: dict[str, Any] = {
            "device": self._wanted,
            "dtype": config.dtype,
            "memory": config.memory,
            "exact": config.exact,
            "safety": config.safety,
            "credentials": [*map(str, config.credentials or ())],
        }
        settings |= {"inputs": str(config.inputs), "outputs": str(config.outputs)}
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "sfumato.server.worker.process", json.dumps(settings),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "SFUMATO_CONFINED": "1"},
            start_new_session=True,  # Ctrl-C is for the server, which then lets pictures be finished
        )  # fmt: skip
        self._last = time.monotonic()
        watch = asyncio.create_task(self._watch())
        try:
            await self._listen(self._process)
        finally:
            watch.cancel()
            self._kill()
            await self._process.wait()
            self._process = None

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        pipe = process.stdout
        assert pipe is not None
        with suppress(asyncio.IncompleteReadError):
            while True:
                text, payload = lengths(await pipe.readexactly(HEAD_SIZE))
                message, more = unpacked(await pipe.readexactly(text), await pipe.readexactly(payload))
                self._last = time.monotonic()
                match message["say"]:
                    case "alive":
                        continue
                    case "ready":
                        self.device = message["device"]
                    case "models":
                        self.models, self.bytes = message["models"], message["bytes"]
                await self._heard(self, message, more)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(1)
            if self.ready and time.monotonic() - self._last > SILENCE:
                log.error("a worker gave no sign of life for %.0f seconds; it is started anew", SILENCE)
                self._kill()

    def _kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)
