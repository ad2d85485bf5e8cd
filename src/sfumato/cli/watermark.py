"""`sfumato watermark`: look for the invisible mark of generated pictures."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The invisible watermark of generated pictures.", no_args_is_help=True)


@app.callback()
def _watermark() -> None:
    """The invisible watermark of generated pictures."""


@app.command()
def read(
    file: Annotated[Path, typer.Argument(help="A PNG, JPEG or WebP picture.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say whether FILE carries a known watermark of Stable Diffusion, and how sure that is.

    Exits with 0 whether or not a mark was found, with 2 if FILE cannot be read as a picture. A mark is lost in small or
    very white pictures, by resizing and by JPEG: that none was found does not prove that a picture was not generated.
    """
    import numpy as np

    from sfumato.images.files import open_image
    from sfumato.provenance.watermark import read as read_watermark

    reading = read_watermark(np.asarray(open_image(file)))
    if as_json:
        record: dict[str, object] = {"found": reading is not None and reading.present}
        if reading is not None:
            record |= asdict(reading) | {"message": reading.message.hex()}
        typer.echo(json.dumps(record))
    elif reading is None:
        typer.echo("no watermark: the picture is too small to carry one")
    else:
        agreement = f"{reading.matching} of {reading.bits} readable bits agree, by chance {reading.probability:.1e}"
        if reading.present:
            typer.echo(f"watermark of {reading.name}: {agreement}")
        else:
            typer.echo(f"no watermark found (nearest is that of {reading.name}: {agreement})")
