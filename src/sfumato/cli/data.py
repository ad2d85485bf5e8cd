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

app = typer.Typer(help="Make data sets, and check those of your own.", no_args_is_help=True)
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


@app.command()
def check(
    path: Annotated[Path, typer.Argument(help="Folder or file of pictures with captions, see docs/data.md.")],
    config: Annotated[Path | None, typer.Option(help="Recipe whose table [data] counts.")] = None,
    resolution: Annotated[int, typer.Option(min=1, help="Edge of a square picture, unless the recipe says it.")] = 512,
    multiple: Annotated[int, typer.Option(min=1, help="Sizes are multiples of so many pixels.")] = 8,
    batch: Annotated[int, typer.Option(min=1, help="Samples in a batch.")] = 1,
) -> None:
    """Show what a set of your own pictures holds, how captions are read, and what looks wrong; 1 if there are errors.

    Captions are shown as CLIP reads them; `sfumato train METHOD --dry-run` shows how your model does.
    """
    from sfumato.cli.set_report import look_through, print_report, reader_of
    from sfumato.data.pictures.check import check as looked_at
    from sfumato.data.pictures.options import PictureOptions
    from sfumato.files import read_toml
    from sfumato.text.tokenizer import CLIPTokenizer
    from sfumato.typed import build as built

    table = read_toml(config).get("data", {}) if config else {}
    options = built(PictureOptions, table, "[data]")
    report = looked_at(path, options, resolution, multiple, batch, look_through)
    tokenizer = CLIPTokenizer.openai()
    print_report(report, batch, reader_of(tokenizer, tokenizer.max_length - 2))
    if report.errors:
        raise typer.Exit(1)


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
