"""`sfumato grid`: the same picture under many settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sfumato.cli.from_table import BASIC
from sfumato.cli.options import Drawing, Json, Loading, Overwrite, command
from sfumato.cli.status import status
from sfumato.errors import SfumatoError

Prompt = Annotated[str, typer.Argument(metavar="PROMPT", help="What to draw, in words.")]
_AXIS = "An option and its values, such as steps=10,20,40 or cfg=1..9:2 or sampler=euler,heun or words=cat,dog."
X = Annotated[str, typer.Option("--x", metavar="AXIS", help=f"{_AXIS} From left to right.")]
Y = Annotated[str | None, typer.Option("--y", metavar="AXIS", help="The same, from top to bottom.")]
Z = Annotated[str | None, typer.Option("--z", metavar="AXIS", help="The same, block under block.")]
PictureFile = Annotated[
    str | None, typer.Option("--picture", metavar="FILE", help="Draw on top of this, as img2img does.")
]
Out = Annotated[
    str | None,
    typer.Option(
        metavar="FILE", help="The sheet; its table is written beside it, as .json. Default: grid.png.",
        rich_help_panel=BASIC, show_default=False,
    ),
]  # fmt: skip
Cells = Annotated[Path | None, typer.Option(metavar="FOLDER", help="Keep every picture on its own as well.")]


@command
def grid(
    prompt: Prompt,
    *,
    x: X,
    y: Y = None,
    z: Z = None,
    picture: PictureFile = None,
    loading: Loading,
    drawing: Drawing,
    cells: Cells = None,
    out: Out = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Draw a picture under many settings, as a labelled sheet and a JSON table.

    "words" replaces its first value in the prompts by each of the others. Ctrl-C stops and keeps what is drawn.
    """
    from sfumato.cli.output import Destination, check_free, free_name
    from sfumato.files import atomic_write
    from sfumato.images.files import save
    from sfumato.images.inputs import load_image

    if drawing.n != 1:
        raise SfumatoError("a grid has one picture a cell; leave --number out, or make seed an axis")
    options = drawing.options
    out = free_name("grid.png", overwrite) if out is None else out
    sheet = Destination.of(out, 1, overwrite=overwrite)
    sheet.check()
    check_free(Path(out).with_suffix(".json"), overwrite)
    if sheet.name is None or sheet.is_pattern or sheet.standard_output:
        raise SfumatoError(f"{out} is no file; give the sheet a name, such as grid.png")
    image = None if picture is None else load_image(picture)

    # Importing torch takes over a second: after what can fail without it.
    from sfumato.tasks.grid import Axis, Cell, Grid

    axes = [Axis.parse(text) for text in (x, y, z) if text is not None]
    sd = loading.load()
    todo = Grid.of(sd, axes, prompt, drawing.negative, image, options)
    done: list[Cell] = []
    try:
        for cell in todo.draw(sd, image):
            assert cell.picture is not None
            done.append(cell)
            if cells is not None:
                name = "-".join(f"{k:03}" for k in cell.place)
                path = cells / f"{name}.png"
                check_free(path, overwrite)
                save(cell.picture.image, path, cell.picture.infotext)
            status.say(f"cell {len(done)} of {len(todo.cells)}")
    finally:
        if done:
            save(todo.sheet(done), out)
            table = {"model": sd.name, **todo.table(done)}
            with atomic_write(Path(out).with_suffix(".json")) as file:
                file.write(json.dumps(table, ensure_ascii=False, indent=1).encode())
            typer.echo(json.dumps({"file": out, **table}) if as_json else out)
