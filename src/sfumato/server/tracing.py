"""Spans of OpenTelemetry where its API is installed: a request, a job, its drawing with the steps. Never a prompt."""

from __future__ import annotations

from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sfumato.server.watchers import JobEvent

try:
    from opentelemetry import propagate, trace
except ImportError:  # nobody listens
    trace = None  # type: ignore[assignment]

NAME = "sfumato"


def tracer() -> Any:
    """What makes spans; None where OpenTelemetry is not installed. Without its SDK the spans go nowhere."""
    return None if trace is None else trace.get_tracer(NAME)


class RequestSpans:
    """A span for every request, named by its route; a caller's own trace goes on in it."""

    def __init__(self, app: ASGIApp, tracer: Any):
        self._app, self._tracer = app, tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        kind, method = trace.SpanKind.SERVER, scope["method"]
        with self._tracer.start_as_current_span(method, propagate.extract(headers), kind) as span:
            span.set_attribute("http.request.method", method)

            async def sent(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                await send(message)

            try:
                await self._app(scope, receive, sent)
            finally:
                path = getattr(scope.get("route"), "path", None)
                if path is not None:
                    span.update_name(f"{method} {path}")
                    span.set_attribute("http.route", path)


class JobSpans:
    """A span for every job from its queueing to its end, and one within for each time that a worker draws it."""

    def __init__(self, tracer: Any):
        self._tracer = tracer
        self._jobs: dict[str, Any] = {}
        self._drawn: dict[str, Any] = {}

    def tell(self, event: JobEvent) -> None:
        """Hears what happens to a job."""
        if self._tracer is None:
            return
        job = event.job
        if job not in self._jobs:
            self._jobs[job] = self._tracer.start_span("job", attributes={"sfumato.job": job})
        match event.what:
            case "queued":
                self._end_drawing(job)  # a worker that died had it
            case "started":
                within = trace.set_span_in_context(self._jobs[job])
                self._drawn[job] = self._tracer.start_span("draw", within)
            case "progress" if job in self._drawn:
                steps = {f"sfumato.{name}": event.data[name] for name in ("picture", "step", "steps")}
                self._drawn[job].add_event("step", steps)
            case "picture" if job in self._drawn:
                self._drawn[job].add_event("picture", {"sfumato.picture": event.data["index"]})
        if event.ends:
            self._end_drawing(job)
            span = self._jobs.pop(job)
            span.set_attribute("sfumato.state", event.what)
            if event.what == "failed":
                span.set_status(trace.Status(trace.StatusCode.ERROR))  # the reason may quote what was asked
            span.end()

    def _end_drawing(self, job: str) -> None:
        if job in self._drawn:
            self._drawn.pop(job).end()
