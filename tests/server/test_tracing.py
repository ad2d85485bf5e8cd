"""Spans, with a tracer that writes down what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

pytest.importorskip("opentelemetry", reason="needs opentelemetry-api")

from opentelemetry import trace

from sfumato.server.tracing import JobSpans, RequestSpans
from sfumato.server.watchers import JobEvent, Watchers


class Span(trace.NonRecordingSpan):
    def __init__(self, name: str, parent: Any):
        super().__init__(trace.INVALID_SPAN_CONTEXT)
        self.name, self.parent = name, parent
        self.attributes: dict[str, Any] = {}
        self.events: list[tuple[str, Any]] = []
        self.status: Any = None
        self.ended = 0

    def set_attribute(self, key: str, value: Any) -> None:
        self.attributes[key] = value

    def update_name(self, name: str) -> None:
        self.name = name

    def add_event(self, name: str, attributes: Any = None, timestamp: int | None = None) -> None:
        self.events.append((name, attributes))

    def set_status(self, status: Any, description: str | None = None) -> None:
        self.status = status

    def end(self, end_time: int | None = None) -> None:
        self.ended += 1


class Tracer:
    def __init__(self) -> None:
        self.spans: list[Span] = []

    def start_span(self, name: str, context: Any = None, attributes: Any = None) -> Span:
        span = Span(name, trace.get_current_span(context))
        span.attributes |= attributes or {}
        self.spans.append(span)
        return span

    @contextmanager
    def start_as_current_span(self, name: str, context: Any, kind: Any) -> Iterator[Span]:
        span = self.start_span(name, context)
        with trace.use_span(span, end_on_exit=True):
            yield span


@pytest.fixture
def tracer() -> Tracer:
    return Tracer()


def test_a_job_is_a_span_with_its_drawing_in_it(tracer: Tracer) -> None:
    watchers = Watchers(JobSpans(tracer))
    step = {"picture": 0, "step": 1, "steps": 2, "progress": 0.5}
    for event in (
        JobEvent("queued", "a"), JobEvent("started", "a"), JobEvent("progress", "a", step), JobEvent("queued", "a"),
        JobEvent("started", "a"), JobEvent("picture", "a", {"index": 0, "infotext": "a secret"}),
        JobEvent("failed", "a", {"error": "cannot draw 'a secret'"}),
    ):  # fmt: skip
        watchers.tell(event)
    job, *drawn = tracer.spans
    assert [one.name for one in tracer.spans] == ["job", "draw", "draw"]
    assert all(one.parent is job for one in drawn) and all(one.ended == 1 for one in tracer.spans)
    assert [name for one in drawn for name, _ in one.events] == ["step", "picture"]
    assert job.attributes == {"sfumato.job": "a", "sfumato.state": "failed"} and not job.status.is_ok
    assert "secret" not in str([(one.attributes, one.events, one.status.description if one.status else "")
                                for one in tracer.spans])  # fmt: skip


def test_a_request_is_a_span_named_by_its_route(tracer: Tracer) -> None:
    app = FastAPI()
    spans = JobSpans(tracer)

    @app.get("/jobs/{job}")
    async def get(job: str) -> str:
        spans.tell(JobEvent("queued", job))
        return job

    app.add_middleware(RequestSpans, tracer=tracer)

    async def ask() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client:
            assert (await client.get("/jobs/a")).json() == "a"
            assert (await client.get("/nowhere")).status_code == 404

    asyncio.run(ask())
    request, job, missing = tracer.spans
    assert request.name == "GET /jobs/{job}" and request.ended == 1
    assert request.attributes["http.response.status_code"] == 200 and job.parent is request
    assert missing.attributes["http.response.status_code"] == 404 and "nowhere" not in missing.name


def test_without_opentelemetry_nothing_happens() -> None:
    Watchers(JobSpans(None)).tell(JobEvent("queued", "a"))
