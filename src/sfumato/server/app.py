"""The application: all dialects, health, metrics, and the replies to errors."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.requests import Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from sfumato import __version__
from sfumato.errors import SfumatoError
from sfumato.server.config import Config
from sfumato.server.dialects import DIALECTS, dialect_of
from sfumato.server.dialects.base import QueueOf
from sfumato.server.jobs.store import KeyConflict
from sfumato.server.logs import LOGGER
from sfumato.server.queue import Queue, QueueFull, Stopping, Unanswered
from sfumato.server.safety.auth import Auth, check_listening
from sfumato.server.safety.checker import check_safety
from sfumato.server.safety.hosts import Hosts
from sfumato.server.safety.limits import Limits
from sfumato.server.safety.names import Forbidden
from sfumato.server.safety.sessions import Sessions
from sfumato.server.tracing import RequestSpans, tracer
from sfumato.server.trainings.runner import Trainings
from sfumato.server.worker.link import Link, ProcessLink

log = logging.getLogger(LOGGER)


def create_app(config: Config, link: type[Link] = ProcessLink) -> FastAPI:
    """Returns the application of a server with these settings; its queue works as long as the application runs.

    `link` is the kind of its workers.
    """
    queue, trainings = Queue(config, link), Trainings(config.folder / "trainings")

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        await queue.open()
        try:
            yield
        finally:
            await asyncio.to_thread(trainings.close)
            await queue.close()

    check_listening(config)
    check_safety(config)
    app = FastAPI(title="sfumato", version=__version__, lifespan=life)
    app.state.queue, app.state.config, app.state.trainings = queue, config, trainings
    for dialect in DIALECTS:
        app.include_router(dialect.router)
    _health(app)
    _errors(app)
    _guards(app, config)
    return app


def _guards(app: FastAPI, config: Config) -> None:
    """Adds the checks that every request passes before its route; the last one added runs first."""
    app.add_middleware(Limits)
    app.state.sessions = Sessions(config)
    app.add_middleware(Auth, sessions=app.state.sessions)
    if config.origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=config.origins, allow_methods=["*"], allow_headers=["*"],
            allow_credentials=True,
        )  # fmt: skip
    app.add_middleware(Hosts, config=config)
    if (spans := tracer()) is not None:
        app.add_middleware(RequestSpans, tracer=spans)


def _health(app: FastAPI) -> None:
    @app.get("/livez", tags=["health"], response_class=PlainTextResponse)
    async def alive() -> str:
        """Say whether the server answers."""
        return "ok"

    @app.get("/readyz", tags=["health"], response_class=PlainTextResponse)
    async def ready(queue: QueueOf) -> Response:
        """Say whether jobs are drawn: 503 while no worker is ready, and while the server stops."""
        fine = not queue.draining and any(link.ready for link in queue.links)
        return PlainTextResponse("ok" if fine else "not ready", 200 if fine else 503)

    @app.get("/metrics", tags=["health"], response_class=PlainTextResponse)
    async def metrics(queue: QueueOf) -> str:
        """Counts for Prometheus."""
        lines = [
            "# TYPE sfumato_jobs_total counter",
            *(f'sfumato_jobs_total{{event="{name}"}} {count}' for name, count in sorted(queue.counts.items())),
            "# TYPE sfumato_jobs_waiting gauge",
            f"sfumato_jobs_waiting {len(queue.live.waiting)}",
            "# TYPE sfumato_jobs_running gauge",
            f"sfumato_jobs_running {len(queue.live.running)}",
            "# TYPE sfumato_workers_ready gauge",
            f"sfumato_workers_ready {sum(link.ready for link in queue.links)}",
            "# TYPE sfumato_model_bytes gauge",
            f"sfumato_model_bytes {sum(link.bytes for link in queue.links)}",
        ]
        return "\n".join(lines) + "\n"


def _errors(app: FastAPI) -> None:
    def reply(request: Request, status: int, message: str, headers: dict[str, str] | None = None) -> Response:
        return JSONResponse(dialect_of(request.url.path).error(status, message), status, headers)

    @app.exception_handler(QueueFull)
    async def full(request: Request, error: QueueFull) -> Response:
        return reply(request, 429, str(error), {"Retry-After": str(error.retry_after)})

    @app.exception_handler(Stopping)
    async def stopping(request: Request, error: Stopping) -> Response:
        return reply(request, 503, str(error), {"Retry-After": "10"})

    @app.exception_handler(Unanswered)
    async def unanswered(request: Request, error: Unanswered) -> Response:
        return reply(request, 503, str(error), {"Retry-After": "3"})

    @app.exception_handler(KeyConflict)
    async def conflict(request: Request, error: KeyConflict) -> Response:
        return reply(request, 422, str(error))

    @app.exception_handler(Forbidden)
    async def forbidden(request: Request, error: Forbidden) -> Response:
        return reply(request, 403, str(error))

    @app.exception_handler(SfumatoError)
    async def bad_input(request: Request, error: SfumatoError) -> Response:
        return reply(request, 400, str(error))

    @app.exception_handler(sqlite3.OperationalError)
    async def not_written(request: Request, error: sqlite3.OperationalError) -> Response:
        log.error("the database cannot be written: %s", error)
        return reply(request, 507, f"the job cannot be written down ({error}); is the server's disk full?")

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        return reply(request, error.status_code, str(error.detail), dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        return reply(request, dialect_of(request.url.path).malformed, "; ".join(map(_problem, error.errors()[:5])))


def _problem(one: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in one["loc"] if part != "body")
    return f"{where}: {one['msg']}" if where else str(one["msg"])
