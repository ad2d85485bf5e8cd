"""`sfumato pull`: download a release."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from sfumato.cli.resumable import resumable

if TYPE_CHECKING:
    from sfumato.hub.catalogue import Release


def pull(
    name: Annotated[str, typer.Argument(help="The release, such as sd1.5 or sdxl; `sfumato models` lists them.")],
    layout: Annotated[
        str | None, typer.Option(help="original (one file) or diffusers (a folder); else the one that is complete.")
    ] = None,
    accept: Annotated[
        bool, typer.Option("--accept-licence", "--yes", "-y", help="Accept the licence without being asked.")
    ] = False,
) -> None:
    """Download a release from Hugging Face, after showing its licence and asking whether you accept it.

    A download that was stopped goes on where it was, and every file's hash is checked. Gated releases need a token, in
    HF_TOKEN, of an account that accepted their terms. Where the file or folder is is printed on stdout.
    """
    from sfumato import user_config as settings
    from sfumato.hub import licence_acceptance
    from sfumato.hub import pull as hub

    release = hub.wanted(name)
    settings.forbid_offline(f"pulling {release.name}")
    if not licence_acceptance.accepted(release):
        accept = _agreed(release, accept)
    watch = Watch()
    with resumable("where it was"), watch.bar:
        path = hub.pull(name, layout, accept_licence=accept, progress=watch.report)
    typer.echo(path)


def _agreed(release: Release, already: bool) -> bool:
    """Show the licence and ask whether the user accepts it; without a terminal nobody can be asked."""
    from sfumato.cli.licence import summary
    from sfumato.hub.licence_text import terms

    typer.echo(summary(terms(release.name)), err=True)
    return already or (sys.stdin.isatty() and typer.confirm("\nDo you accept this licence?", err=True))


class Watch:
    """A bar over the bytes, or where stderr is no terminal a line for each file."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self.plain = not console.is_terminal
        self.bar = Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=self.plain)
        self.task = self.bar.add_task("asking the hub", total=None)
        self.file = ""

    def report(self, name: str, done: int, total: int) -> None:
        if self.plain and name != self.file:
            typer.echo(f"{name} ({done / 1e6:.1f} of {total / 1e6:.1f} MB are there)", err=True)
        self.file = name
        self.bar.update(self.task, description=name, completed=done, total=total)
