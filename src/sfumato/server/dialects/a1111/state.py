"""What the dialect remembers between requests."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from sfumato.server.dialects.a1111.calls import Calls
from sfumato.server.dialects.a1111.local import LocalFiles
from sfumato.server.dialects.a1111.options import OptionStore
from sfumato.server.queue import Queue


class A1111:
    """The files, settings and calls of a server."""

    def __init__(self, queue: Queue):
        self.queue = queue
        self.files = LocalFiles()
        self.options = OptionStore(queue.config.folder, self.files, queue.config.model)
        self.calls = Calls(queue)


def _state(connection: HTTPConnection) -> A1111:
    state = connection.app.state
    if not hasattr(state, "a1111"):
        state.a1111 = A1111(state.queue)
    return state.a1111


StateOf = Annotated[A1111, Depends(_state)]
"""What the dialect remembers, as a parameter of a route."""
