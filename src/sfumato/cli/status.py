"""What a command says on stderr while it works: nothing but errors, the usual, or all that it does."""

from __future__ import annotations

import sys
import time
from enum import IntEnum

import typer


class Level(IntEnum):
    """How much is said."""

    QUIET = 0
    USUAL = 1
    VERBOSE = 2


_CLEAR = "\r\x1b[2K"


class Status:
    """The one line that says what is going on, and how much may be said at all."""

    def __init__(self) -> None:
        self.level = Level.USUAL
        self._shown = False
        self._started = time.perf_counter()

    def begin(self, quiet: bool = False, verbose: bool = False) -> None:
        """A command begins."""
        self.level = Level.QUIET if quiet else Level.VERBOSE if verbose else Level.USUAL
        self._shown = False

    def loading(self, what: str) -> None:
        """Say at once what is loaded: on a terminal until the next line, elsewhere only if all is to be said."""
        self._started = time.perf_counter()
        if self.level is Level.QUIET:
            return
        if sys.stderr.isatty():
            self._shown = True
            typer.echo(f"loading {what} ...", err=True, nl=False)
        elif self.level is Level.VERBOSE:
            typer.echo(f"loading {what} ...", err=True)

    def loaded(self, what: str) -> None:
        """Say what was loaded and how long that took, if all is to be said."""
        self.clear()
        if self.level is Level.VERBOSE:
            typer.echo(f"loaded {what} after {time.perf_counter() - self._started:.1f} s", err=True)

    def say(self, text: str, level: Level = Level.USUAL) -> None:
        """A line for whoever wants to know as much."""
        if self.level >= level:
            self.clear()
            typer.echo(text, err=True)

    def clear(self) -> None:
        """Take the line of a terminal away that says what is loaded."""
        if self._shown:
            self._shown = False
            typer.echo(_CLEAR, err=True, nl=False)


status = Status()
