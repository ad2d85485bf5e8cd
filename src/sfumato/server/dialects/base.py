"""What a dialect is, and what every dialect needs of a request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import Field
from starlette.requests import HTTPConnection

from sfumato.server.queue import Queue


@dataclass(frozen=True)
class Dialect:
    """The routes of a dialect, the beginnings of their addresses, and how it says that something is wrong.

    `error` makes the body of a reply of a status (400 to 599) with a message. `malformed` is the status of a reply to a
    body that is not of the form that a route takes.
    """

    name: str
    router: APIRouter
    prefixes: tuple[str, ...]
    error: Callable[[int, str], dict[str, Any]]
    malformed: int = 422


def _queue(connection: HTTPConnection) -> Queue:
    return connection.app.state.queue


def _user(connection: HTTPConnection) -> str:
    return getattr(connection.state, "user", "")


Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]
"""A whole number that the database can hold."""
QueueOf = Annotated[Queue, Depends(_queue)]
"""The queue, as a parameter of a route."""
UserOf = Annotated[str, Depends(_user)]
"""Who asks, "" where the server knows no users."""
