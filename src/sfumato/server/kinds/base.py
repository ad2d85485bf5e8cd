"""What a kind of request has to say, and what it is given to say it with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sfumato.api import StableDiffusion
from sfumato.diffusion.driver import Asking
from sfumato.pipeline.events import Picture, Progress
from sfumato.server.jobs.inputs import Inputs
from sfumato.server.jobs.job import JobRequest
from sfumato.spec import Spec


@dataclass(frozen=True)
class Report:
    """What a job tells besides steps and pictures. `final` belongs to the result, the rest is for who watches."""

    data: Mapping[str, Any]
    final: bool = False


Work = Asking[Progress | Picture | Report]
"""A job at work: it asks for rows of networks, and yields steps, finished pictures and reports."""


@dataclass(frozen=True, eq=False)
class Begun:
    """A job whose work began; drawn alone, it asks `max_rows` rows in a call of a network."""

    work: Work
    max_rows: int = 8


class Desk(Protocol):
    """Where requests are checked, before any job exists; no network is loaded there."""

    inputs: Inputs

    def spec(self, model: str) -> Spec:
        """What a model is, by its name. Raises SfumatoError for a name that is none."""


class Bench(Protocol):
    """Where jobs are worked on, with loaded models."""

    inputs: Inputs

    def model(self, name: str) -> StableDiffusion:
        """The loaded model of a name. Raises SfumatoError where it cannot be loaded."""


class Kind(ABC):
    """A kind of request."""

    @abstractmethod
    def checked(self, request: JobRequest, desk: Desk) -> JobRequest:
        """The request with its seed decided, so that it means the same when it starts again.

        Raises SfumatoError for what cannot be honoured, as far as that shows without a network.
        """

    @abstractmethod
    def begin(self, request: JobRequest, bench: Bench, done: int = 0) -> Begun:
        """Begins the work, without the first `done` pictures, which are finished. Raises SfumatoError."""

    def size(self, request: JobRequest, desk: Desk) -> tuple[int, int]:
        """How many pictures are drawn, and of how many pixels each: what a job weighs."""
        return 1, 256 * 256

    def models(self, request: JobRequest) -> Iterable[str]:
        """The names of models in a checked request besides its own two."""
        return ()

    def forget(self) -> int:
        """Lets go of what is kept from one job for the next; returns how many bytes that were."""
        return 0
