"""A job: a request on its way to pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Self

from sfumato.hub.local_models import EMBEDDED


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """What is to be done, as JSON can say it.

    `kind` is one of `kinds.KINDS`. `options` are those of `settings.table`, `how` those of the kind itself. `pictures`
    are names of pictures that the request brought (see `inputs.Inputs`), by what they are for; in `options` and `how`
    such a name stands where a picture goes.
    """

    kind: str = "txt2img"
    model: str = EMBEDDED
    prompt: str = ""
    negative: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    how: Mapping[str, Any] = field(default_factory=dict)
    pictures: Mapping[str, str] = field(default_factory=dict)
    refiner: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Self:
        """The request that `to_json` gave."""
        return cls(**value)

    def but(self, **changed: Any) -> Self:
        """The same request with some fields changed."""
        return replace(self, **changed)


class State(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self in (State.DONE, State.FAILED, State.CANCELLED)


@dataclass(frozen=True, kw_only=True)
class SavedPicture:
    """A finished picture of a job; `file` is its path below the folder of outputs."""

    index: int
    file: str
    seed: int
    infotext: str
    width: int
    height: int
    score: float | None = None


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job as the database has it. Times are seconds since 1970.

    `number` orders jobs by arrival. `dialect` is the door by which it came, `client` what that door wants to remember.
    `attempts` counts its starts. `report` is what it found besides pictures.
    """

    id: str
    number: int
    user: str
    dialect: str
    request: JobRequest
    priority: int = 0
    state: State = State.QUEUED
    created: float
    started: float | None = None
    finished: float | None = None
    attempts: int = 0
    error: str | None = None
    bad_input: bool = False
    client: Mapping[str, Any] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)
    pictures: tuple[SavedPicture, ...] = ()
