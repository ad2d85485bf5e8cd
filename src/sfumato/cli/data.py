"""`sfumato data`: make the data sets that models are trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

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
    """Openly licensed emoji in six styles with captions in six languages (downloads 50 MB with npm)."""
    from sfumato.data.emoji import build_emoji

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task("start", total=None)
            build_emoji(
                out,
                cache=cache,
                size=size,
                progress=lambda done, total, what: bar.update(task, completed=done, total=total, description=what),
            )
    except KeyboardInterrupt:
        typer.echo(f"stopped; the same command goes on with {out}", err=True)
        raise typer.Exit(130) from None
    typer.echo(out)
