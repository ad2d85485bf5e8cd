"""What a script of the web UI is here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfumato.server.dialects.a1111.bodies import DrawBody
from sfumato.server.dialects.a1111.replies import Drawn
from sfumato.server.jobs.job import JobRequest

Finished = Sequence[tuple[Path, str]]
"""The pictures of a job: their files and settings."""


@dataclass(frozen=True)
class Plan:
    """The jobs of a call, and what becomes of their pictures.

    `sheets` makes the reply's pictures of those of each job, which are none for a job that was given up; None sends
    them as they are. `first` is the place of the first that is no sheet.
    """

    requests: Sequence[JobRequest]
    sheets: Callable[[Sequence[Finished]], list[Drawn]] | None = None
    first: int = 0


@dataclass(frozen=True)
class Argument:
    """An argument of a script, as /script-info tells it."""

    label: str
    value: Any = None
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    choices: tuple[str, ...] | None = None


Requests = Callable[[DrawBody], list[JobRequest]]


class Script(ABC):
    """A script that a request may choose by its `name`, in lower case."""

    name: str
    txt2img = True
    img2img = True

    @abstractmethod
    def arguments(self, img2img: bool) -> list[Argument]:
        """What `script_args` holds."""

    @abstractmethod
    def plan(self, body: DrawBody, requests: Requests) -> Plan:
        """The jobs of a body; `requests` makes those of a body without a script. Raises SfumatoError, HTTPException."""


def argument(values: Sequence[Any], place: int, default: Any) -> Any:
    """The argument at a place, or what it is where a client sends fewer."""
    return values[place] if place < len(values) and values[place] is not None else default
