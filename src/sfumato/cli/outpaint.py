"""`sfumato outpaint`: draw a picture on beyond its edges."""

from __future__ import annotations

from typing import Annotated

import typer

from sfumato.cli.img2img import PictureFile, Prompt
from sfumato.cli.options import Drawing, Loading, Saving, Size, command, with_size

Pixels = Annotated[int, typer.Option(help="Pixels to add on this side.")]
Overlap = Annotated[
    int | None,
    typer.Option(help="Pixels over which the old picture goes over into the new; else an eighth of what is drawn."),
]
Step = Annotated[float, typer.Option(help="How much is added at once, as a share of what the model draws.")]


@command
def outpaint(
    picture: PictureFile,
    prompt: Prompt = "",
    *,
    left: Pixels = 0,
    right: Pixels = 0,
    top: Pixels = 0,
    bottom: Pixels = 0,
    overlap: Overlap = None,
    step: Step = 0.5,
    loading: Loading,
    size: Size = None,
    drawing: Drawing,
    saving: Saving,
) -> None:
    """Draw a picture on beyond its edges, by any amount on any side.

    Large amounts are added in pieces. --size is what the model draws at once, and by default its own size. The old
    picture, but for --overlap, comes back bit by bit, if it is saved as PNG or WebP.

    The result is saved as `sfumato txt2img` saves its pictures.
    """
    from sfumato.cli.output import Destination
    from sfumato.images.files import open_image

    options = with_size(drawing.options(), size)
    destination = Destination.of(saving.out, drawing.n)
    destination.check()
    image = open_image(picture)

    # Importing torch takes over a second: after what can fail without it.
    from sfumato.cli.draw import draw
    from sfumato.tasks.outpaint import OutpaintMargins, OutpaintRequest

    request = OutpaintRequest(
        prompt=prompt, negative=drawing.negative, options=options, image=image,
        margins=OutpaintMargins(left, right, top, bottom), overlap=overlap, step=step,
    )  # fmt: skip
    draw(loading.load(), request, destination, saving.as_json)
