"""The settings with which a server is started."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sfumato.user_config import folder

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def own_folder() -> Path:
    """Returns the folder where the server keeps jobs and pictures by default."""
    return folder("data") / "server"


@dataclass(frozen=True, kw_only=True)
class Config:
    """The settings of a server."""

    folder: Path = field(default_factory=own_folder)  # holds its jobs and pictures
    host: str = "127.0.0.1"
    port: int = 7860
    model: str | None = None  # draws where a request names none; None is the one that ships
    devices: tuple[str | None, ...] = (None,)  # each has a worker; None is the best one there is
    dtype: str | None = None
    memory: int | None = None  # bytes of models that a worker keeps loaded; None is half of what is free
    queue: int = 256  # jobs that may wait
    exact: bool = False  # no two requests share a call of a network
    at_once: int | None = None  # pixels that a worker draws side by side; larger jobs are drawn alone
    pixels: int = 64 << 20  # that a job draws at most
    token: str | None = None  # whoever has it may use the server
    users: Path | None = None  # a file of names and argon2 hashes of their passwords
    hosts: tuple[str, ...] = ()  # names by which it may be called besides its own
    origins: tuple[str, ...] = ()  # other pages that may call it
    safety: str | None = None  # the safety checker that blanks pictures, "model" for the model's own
    credentials: tuple[Path, Path] | None = None  # a key and its certificates, to sign pictures with
    licences: bool = False  # refuse models whose licence was not accepted on this machine
    log_prompts: bool = False  # write prompts into the log
    drain: float = 30.0  # seconds that running jobs may go on when the server is told to stop

    @property
    def database(self) -> Path:
        return self.folder / "jobs.sqlite"

    @property
    def inputs(self) -> Path:
        """The folder of pictures that requests sent."""
        return self.folder / "inputs"

    @property
    def outputs(self) -> Path:
        """The folder of finished pictures, with a folder for each day."""
        return self.folder / "outputs"
