"""Commands that go on where they were stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer


@contextmanager
def resumable(where: str) -> Iterator[None]:
    """Turn Ctrl-C into exit code 130 and a line that says how to go on: "the same command goes on `where`"."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"stopped; the same command goes on {where}", err=True)
        raise typer.Exit(130) from None
