"""What whoever starts the server decides."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sfumato.user_config import folder

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def own_folder() -> Path:
    """Where the server keeps jobs and pictures if nobody says."""
    return folder("data") / "server"


@dataclass(frozen=True, kw_only=True)
class Config:
    """How a server runs.

    `folder` holds its jobs and pictures. `devices` have a worker each; None is the best one there is. `queue` is how
    many jobs may wait, `memory` how many bytes of models a worker keeps loaded (None: half of what is free). With
    `exact` no two requests share a call of a network. `at_once` is how many pixels a worker draws side by side (None:
    what suits its device); larger jobs are drawn alone. `token` and `users` (names and argon2 hashes) say who may use
    it, `hosts` are names by which it may be called besides its own, `origins` are other pages that may call it. `fetch`
    allows pictures given as addresses. `log_prompts` writes prompts into the log. `drain` is for how many seconds
    running jobs may go on when the server is told to stop. A job draws at most `pixels`. With `licences` a model whose
    licence was not accepted on this machine is refused.
    """

    folder: Path = field(default_factory=own_folder)
    host: str = "127.0.0.1"
    port: int = 7860
    model: str | None = None
    devices: tuple[str | None, ...] = (None,)
    dtype: str | None = None
    memory: int | None = None
    queue: int = 256
    exact: bool = False
    at_once: int | None = None
    token: str | None = None
    users: Path | None = None
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    fetch: bool = False
    log_prompts: bool = False
    drain: float = 30.0
    pixels: int = 64 << 20
    licences: bool = False

    @property
    def database(self) -> Path:
        return self.folder / "jobs.sqlite"

    @property
    def inputs(self) -> Path:
        """Pictures that requests brought, by what is in them."""
        return self.folder / "inputs"

    @property
    def outputs(self) -> Path:
        """Pictures that were drawn, a folder a day."""
        return self.folder / "outputs"
