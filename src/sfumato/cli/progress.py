"""Bars on stderr, where that is a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def bar_of(done_of: str | None = None) -> Iterator[Callable[[int, int | None, str], None]]:
    """Show a bar as long as the context lasts; tell it how much is done, of how much, and what goes on.

    `done_of` is how rich writes both numbers; None for bytes.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    count = DownloadColumn() if done_of is None else TextColumn(done_of)
    columns = (TextColumn("{task.description}"), BarColumn(), count, TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading", total=None)
        yield lambda done, total, what: bar.update(task, completed=done, total=total, description=what)
