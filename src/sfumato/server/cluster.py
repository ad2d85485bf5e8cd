"""The server on a cluster of Ray: `serve run sfumato.server.cluster:app folder=/shared/sfumato replicas=4`.

The deployment `Web` runs the same application as `sfumato serve`, in one process, because all jobs are in one database.
The deployment `Drawer` has one replica for each worker, on any machine of the cluster. All machines must see the
server's folder at the same path.
"""

from __future__ import annotations

import asyncio
import io
import logging
import os
import platform
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import ray
from fastapi import FastAPI
from pydantic import TypeAdapter, ValidationError
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RequestCancelledError
from ray.util.queue import Queue as Commands

from sfumato.errors import SfumatoError
from sfumato.files import atomic_write
from sfumato.server.app import create_app
from sfumato.server.config import Config
from sfumato.server.logs import LOGGER, write_logs
from sfumato.server.safety.auth import check_listening
from sfumato.server.safety.connections import MAX_CONNECTIONS
from sfumato.server.serve import locked
from sfumato.server.worker.link import Heard, Link
from sfumato.server.worker.messages import read_message
from sfumato.server.worker.process import Worker, beat

MARK = "cluster.id"  # a file of the server's folder, by which a replica knows that it sees the same folder
CHOSEN_BY_RAY = ("host", "port", "devices")
log = logging.getLogger(LOGGER)


@dataclass(frozen=True, kw_only=True)
class ClusterConfig(Config):
    """The settings of a server on a cluster.

    Every machine of a cluster may be reached by others, so `token` or `users` must be given.
    """

    token: str | None = field(default_factory=lambda: os.environ.get("SFUMATO_TOKEN"))
    host: str = "0.0.0.0"
    replicas: int = 1  # workers
    gpus: float | None = None  # that each of them gets; None is one where the cluster has GPUs
    cpus: float = 1  # that each of them gets, and threads with which it computes without a GPU

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> ClusterConfig:
        """Returns the settings with these names and values; values may be text. Raises SfumatoError for a wrong one."""
        if wrong := [name for name in CHOSEN_BY_RAY if name in given]:
            advice = "set host and port with `serve start`, and the number of workers with replicas=N"
            raise SfumatoError(f"{', '.join(wrong)}: on a cluster, Ray Serve chooses this; {advice}")
        known = {one.name for one in fields(cls)} - {*CHOSEN_BY_RAY}
        if wrong := sorted({*given} - known):
            raise SfumatoError(f"a cluster has no setting {', '.join(wrong)}; it has {', '.join(sorted(known))}")
        try:
            config = TypeAdapter(cls).validate_python(dict(given))
        except ValidationError as error:
            wrong = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
            raise SfumatoError("settings of the cluster: " + "; ".join(wrong)) from None
        if config.replicas < 1:
            raise SfumatoError(f"replicas is {config.replicas}; a cluster needs 1 or more")
        return replace(config, devices=(None,) * config.replicas)


def app(given: dict[str, Any]) -> serve.Application:
    """Returns the application for `serve run` and for `import_path`; `given` are the fields of `ClusterConfig`."""
    config = ClusterConfig.of(given)
    check_listening(config)  # here too, so that whoever starts it is told at once
    gpus = float("GPU" in ray.cluster_resources()) if config.gpus is None else config.gpus
    drawer = serve.deployment(
        Drawer, name="Drawer", num_replicas=config.replicas, max_ongoing_requests=1,
        ray_actor_options={"num_cpus": config.cpus, "num_gpus": gpus},
    )  # fmt: skip
    web = serve.deployment(
        serve.ingress(_built(config))(), name="Web", num_replicas=1, max_ongoing_requests=MAX_CONNECTIONS,
        graceful_shutdown_timeout_s=config.drain + 5, ray_actor_options={"num_cpus": 0},
    )  # fmt: skip
    return web.bind(drawer.bind())


def _built(config: Config) -> Callable[[], FastAPI]:
    """A function for `serve.ingress`, which calls it in the process that shall serve."""

    def built() -> FastAPI:
        write_logs(as_json=False)
        made, open_files = create_app(config, ReplicaLink), ExitStack()
        made.state.lock = open_files, open_files.enter_context(locked(config.folder))  # until the process ends
        return made

    return built


class Drawer:
    """A worker in a process of Ray's. Its only request lasts as long as the web process does."""

    async def work(
        self, settings: Mapping[str, Any], mark: tuple[str, str], commands: Commands
    ) -> AsyncIterator[bytes]:
        """Obeys the commands, and yields what the worker says; the process ends with the request.

        `mark` is the path of the server's file MARK and what is in it. Raises SfumatoError if it is not there.
        """
        os.environ["SFUMATO_CONFINED"] = "1"
        _check_mark(*mark)
        loop, said = asyncio.get_running_loop(), asyncio.Queue[bytes]()
        worker = Worker.of(settings, lambda message: loop.call_soon_threadsafe(said.put_nowait, message))
        for thread in (lambda: _run_to_end(worker), lambda: beat(worker)):
            threading.Thread(target=thread, daemon=True).start()
        listening = asyncio.create_task(_listen(worker, commands))
        try:
            while True:
                yield await said.get()
        finally:
            listening.cancel()
            os._exit(0)  # whatever is being drawn has nobody to go to; Ray Serve starts a new process


def _run_to_end(worker: Worker) -> None:
    try:
        worker.run()
    except BaseException:
        log.exception("the worker failed")
    os._exit(1)


async def _listen(worker: Worker, commands: Commands) -> None:
    with suppress(RayError):
        while True:
            worker.commands.put(await commands.get_async())
    os._exit(0)  # the web process is gone


class ReplicaLink(Link):
    """A worker that is a replica of `Drawer`."""

    def __init__(self, config: Config, device: str | None, heard: Heard):
        super().__init__(config, device, heard)
        self._mark = _read_mark(config.folder)
        self._commands: Commands | None = None
        self._killed = asyncio.Event()

    async def send(self, message: Mapping[str, Any]) -> None:
        """Sends a command through a queue of Ray's."""
        if self._commands is not None:
            with suppress(RayError):
                await self._commands.put_async(dict(message))

    async def _run(self) -> None:
        self._commands, self._killed = Commands(actor_options={"num_cpus": 0}), asyncio.Event()
        replica = serve.get_deployment_handle("Drawer").options(stream=True)
        words = replica.work.remote(self._settings, self._mark, self._commands)
        tasks = [asyncio.create_task(self._listen(words)), asyncio.create_task(self._killed.wait())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            words.cancel()
            self._commands.shutdown(force=True)
            self._commands = None

    async def _listen(self, words: AsyncIterator[bytes]) -> None:
        with suppress(RequestCancelledError):  # which `_run` does
            async for message in words:
                if (read := read_message(io.BytesIO(message))) is not None:
                    await self._hear(*read)

    def _kill(self) -> None:
        self._killed.set()


def _read_mark(folder: Path) -> tuple[str, str]:
    """The path of the file MARK in a server's folder, made if it is not there, and what is in it."""
    path = folder / MARK
    if not path.exists():
        with atomic_write(path) as target:
            target.write(uuid.uuid4().hex.encode())
    return str(path), path.read_text(encoding="ascii")


def _check_mark(path: str, mark: str) -> None:
    try:
        seen = Path(path).read_text(encoding="ascii")
    except OSError:
        seen = None
    if seen != mark:
        folder, machine = Path(path).parent, platform.node()
        advice = "give all machines of the cluster one shared folder, at the same path"
        raise SfumatoError(f"the machine {machine} does not see the server's folder {folder}; {advice}")
