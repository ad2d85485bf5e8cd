"""`sfumato control`: hints for ControlNets, to be looked at or drawn on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sfumato.cli.from_table import completion
from sfumato.errors import SfumatoError, unknown
from sfumato.settings.control import HINTS

PREVIEWS = tuple(one for one in HINTS if one not in ("none", "inpaint"))
app = typer.Typer(help="Hints for ControlNets.", no_args_is_help=True)


@app.callback()
def _control() -> None:
    """Hints for ControlNets."""


@app.command()
def preview(
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help=f"{', '.join(PREVIEWS)}.", autocompletion=completion(lambda: PREVIEWS))
    ],
    picture: Annotated[str, typer.Argument(metavar="PICTURE", help="A picture of any size.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file of the hint.")],
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Crop and resize first, as drawing does. Default: as it is.")
    ] = None,
    low: Annotated[float | None, typer.Option(help="Of canny: where edges end. Default: 100.")] = None,
    high: Annotated[float | None, typer.Option(help="Of canny: where edges begin. Default: 200.")] = None,
    depth_model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="For depth and normal: a model with a depth network, such as 2.0 depth."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it exists.")] = False,
) -> None:
    """Write what a ControlNet would be shown of a picture, as `--control` with hint=KIND makes it.

    Example: sfumato control preview canny photo.jpg --out edges.png
    """
    from sfumato.images.files import save
    from sfumato.images.inputs import load_image
    from sfumato.images.resize import fitted
    from sfumato.settings.kinds import TwoNumbers

    if kind not in PREVIEWS:
        raise unknown("KIND", kind, PREVIEWS)
    if kind != "canny" and (low is not None or high is not None):
        raise SfumatoError(f"--low and --high are thresholds of canny; leave them out for {kind}")
    if kind not in ("depth", "normal") and depth_model is not None:
        raise SfumatoError(f"--depth-model is for depth and normal; leave it out for {kind}")
    image = load_image(picture)
    if size is not None:
        try:
            image = fitted(image, *TwoNumbers(1, 8192, (512, 512)).read(size), "crop")
        except ValueError as error:
            raise SfumatoError(str(error).replace("{name}", "--size")) from None
    if kind == "canny":
        from sfumato.images.control.canny import HIGH, LOW, canny

        hint = canny(image, LOW if low is None else low, HIGH if high is None else high)
    else:
        from sfumato.pipeline.hints import make_hint

        hint = make_hint(kind, image, depth_model)
    try:
        save(hint, out, replace=overwrite)
    except FileExistsError:
        raise SfumatoError(f"{out} exists; name another file, or replace it with --overwrite") from None
    typer.echo(str(out))
