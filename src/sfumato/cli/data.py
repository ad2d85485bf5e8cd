"""`sfumato data`: make the data sets that models are trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sfumato.cli.resumable import resumable

app = typer.Typer(help="Make data sets.", no_args_is_help=True)
build = typer.Typer(help="Build a data set from its sources.", no_args_is_help=True)
app.add_typer(build, name="build")


@build.callback()
def _build() -> None:
    """Build a data set from its sources."""


@build.command()
def emoji(
    out: Annotated[Path, typer.Argument(help="Folder for the set; a half-built one is finished.")],
    cache: Annotated[Path | None, typer.Option(help="Folder that keeps the downloaded packages.")] = None,
    size: Annotated[int, typer.Option(help="Edge of the pictures in pixels.")] = 128,
) -> None:
    """Build the emoji set: six styles, captions in six languages, open licences (downloads 50 MB with npm)."""
    from sfumato.data.emoji.build import build_emoji

    with _progress(out) as show:
        build_emoji(out, cache=cache, size=size, progress=show)
    typer.echo(out)


@build.command()
def scenes(
    out: Annotated[Path, typer.Argument(help="Folder for the set; a half-built one is finished.")],
    emoji: Annotated[Path, typer.Option(help="Folder that `sfumato data build emoji` made.")],
    count: Annotated[int, typer.Option(min=1, help="Number of scenes.")] = 10000,
    seed: Annotated[int, typer.Option(help="Another seed makes other scenes.")] = 0,
) -> None:
    """Build scenes of one to four emoji, with captions, masks, boxes and depth, and known places, counts, colours."""
    from sfumato.data.emoji.dataset import EmojiData
    from sfumato.data.emoji.scene_set import build_scenes

    with _progress(out) as show:
        build_scenes(out, EmojiData(emoji), count, seed, lambda done, total: show(done, total, "compose scenes"))
    typer.echo(out)


@contextmanager
def _progress(out: Path) -> Iterator[Callable[[int, int, str], None]]:
    """Yields a function that moves a bar on stderr, or writes a line for each kind of work where that is no terminal.

    Ctrl-C ends with a line that says how to go on.
    """
    console, last = Console(stderr=True), ""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())

    def show(done: int, total: int, what: str) -> None:
        nonlocal last
        if what != last and not console.is_terminal:
            typer.echo(f"{what} ({done} of {total})", err=True)
        last = what
        bar.update(task, completed=done, total=total, description=what)

    with resumable(f"with {out}"), Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("start", total=None)
        yield show
