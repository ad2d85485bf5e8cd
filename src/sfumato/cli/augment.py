"""`sfumato augment` and `sfumato anonymise`: whole folders of pictures drawn anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sfumato.cli.options import Loading, Redrawing, command
from sfumato.cli.status import status

Source = Annotated[Path, typer.Argument(metavar="IN", help="A folder of pictures; NAME.txt is NAME's caption.")]
Target = Annotated[Path, typer.Argument(metavar="OUT", help="The folder for the new ones, under the same names.")]
Strength = Annotated[float, typer.Option(help="How much is drawn anew, from 0 (nothing) to 1 (everything).")]


@command
def augment(source: Source, target: Target, *, strength: Strength = 0.3, loading: Loading, drawing: Redrawing) -> None:
    """Draw every picture of a folder slightly anew, -n times, for training.

    Names, sizes and captions are kept; a caption is the prompt. What was interrupted goes on with the same command.
    """
    _redraw(source, target, strength, loading, drawing)


@command
def anonymise(
    source: Source, target: Target, *, strength: Strength = 0.6, loading: Loading, drawing: Redrawing
) -> None:
    """Draw every picture of a folder so far anew that the people in it are others.

    As augment, but stronger. Look at the result: what survives depends on the model and the strength.
    """
    _redraw(source, target, strength, loading, drawing)


def _redraw(source: Path, target: Path, strength: float, loading: Loading, drawing: Redrawing) -> None:
    from sfumato.files import check_writable

    options = drawing.options
    check_writable(target)

    # Importing torch takes over a second: after what can fail without it.
    from sfumato.tasks import augment as task

    for event in task.augment(loading.load(), source, target, strength, options):
        for path in event.paths:
            typer.echo(path)
        status.say(f"picture {event.done} of {event.total}")
