"""`sfumato inpaint`: draw part of a picture anew."""

from __future__ import annotations

from typing import Annotated

import typer

from sfumato.cli.img2img import Pictures
from sfumato.cli.options import Drawing, Loading, Saving, command
from sfumato.cli.sources import from_stdin, pictures_and_prompt
from sfumato.settings.task_options import ON_A_PICTURE, InpaintOptions

MaskFile = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="A picture of the same size: white where to draw, or transparent there if any of it is transparent. "
        "Default: what is transparent in PICTURE is drawn.",
        rich_help_panel=ON_A_PICTURE,
    ),
]


@command
def inpaint(
    pictures: Pictures,
    *,
    mask: MaskFile = None,
    how: InpaintOptions,
    loading: Loading,
    drawing: Drawing,
    saving: Saving,
) -> None:
    """Draw part of a picture anew.

    Any model can: one that was made for it is shown mask and picture, any other is held to the picture around. What
    the mask leaves out comes back bit by bit, if it is saved as PNG or WebP.

    The results are saved as `sfumato txt2img` saves its pictures.

    Example: sfumato inpaint photo.png "a red hat" --mask hat.png --out new.png
    """
    from sfumato.images.inputs import split_image_and_mask

    names, prompt = pictures_and_prompt(pictures)
    destination = saving.destination(drawing.n, len(names))
    given = [split_image_and_mask(from_stdin(name), mask) for name in names]

    # Importing torch takes over a second: after what can fail without it.
    from sfumato.cli.draw import draw
    from sfumato.tasks.inpaint import InpaintRequest

    sd = loading.load()
    for name, (image, where) in zip(names, given, strict=True):
        request = InpaintRequest(
            prompt=prompt, negative=drawing.negative, options=drawing.options, image=image, mask=where, how=how
        )
        draw(sd, request, destination.for_source(name), saving.as_json, {"picture": name, "mask": mask})
