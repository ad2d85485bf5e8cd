"""Whatever a client sends, no reply is a fault of the server's: Schemathesis over all that OpenAPI describes."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error

from sfumato.server.queue import Queue, QueueFull

SECONDS = 120.0  # for a reply


def no_faults(server: str, examples: int, seed: int = 1) -> int:
    """Calls every operation with values that fit its schema and values that do not; how many operations there are."""
    schema = schemathesis.openapi.from_url(server + "/openapi.json")
    count = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        count += 1

        @hypothesis.seed(seed)
        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            phases=[hypothesis.Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @hypothesis.given(
            case=operation.as_strategy() | operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)
        )
        def call(case: Any) -> None:
            reply = case.call(base_url=server, timeout=SECONDS)
            if reply.status_code == 503 and case.path == "/readyz":
                return
            case.validate_response(reply, checks=[not_a_server_error])

        call()
    return count


@pytest.fixture
def taking_no_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are checked to the end and then refused, as by a full queue."""

    async def checked(self: Queue, request: Any, **more: Any) -> Any:
        await self.checked(request)
        raise QueueFull(1, 1)

    monkeypatch.setattr(Queue, "submit", checked)


def test_no_reply_is_a_fault(server: str, taking_no_jobs: None) -> None:
    assert no_faults(server, 2) > 50


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_no_reply_is_a_fault_in_many_calls(server: str, taking_no_jobs: None, seed: int) -> None:
    assert no_faults(server, 100, seed) > 50
