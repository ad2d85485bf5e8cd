"""`sfumato depth2img`: draw pictures with the depth of a picture."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from sfumato.cli.img2img import Prompt, Resize
from sfumato.cli.options import Drawing, Loading, Saving, Size, command, with_size

PictureFile = Annotated[str, typer.Argument(metavar="PICTURE", help="A PNG, JPEG or WebP file.")]
DepthFile = Annotated[
    str | None,
    typer.Option("--depth", metavar="FILE", help="A picture of depth, the nearest brightest; else it is estimated."),
]
OnlyDepth = Annotated[bool, typer.Option("--is-depth", help="PICTURE itself is a picture of depth.")]
Strength = Annotated[float, typer.Option(help="1 takes nothing but the depth; less keeps colours.")]
SeenFile = Annotated[Path | None, typer.Option("--save-depth", metavar="FILE", help="Keep the depth that is told.")]


@command
def depth2img(
    picture: PictureFile,
    prompt: Prompt = "",
    *,
    depth: DepthFile = None,
    is_depth: OnlyDepth = False,
    strength: Strength = 0.9,
    resize: Resize = "crop",
    save_depth: SeenFile = None,
    loading: Loading,
    size: Size = None,
    drawing: Drawing,
    saving: Saving,
) -> None:
    """Draw pictures with the depth of a picture, in other words and colours.

    Without --model the embedded depth model draws. The result is saved as `sfumato txt2img` saves its pictures.
    """
    from sfumato.cli.output import Destination
    from sfumato.images.files import save
    from sfumato.images.inputs import load_image

    options = with_size(drawing.options(), size)
    destination = Destination.of(saving.out, drawing.n)
    destination.check()
    first = load_image(picture)
    given = first if is_depth else None if depth is None else load_image(depth, "the depth")
    image = None if is_depth else first

    # Importing torch takes over a second: after what can fail without it.
    from sfumato.cli.draw import draw
    from sfumato.hub.local_models import EMBEDDED
    from sfumato.tasks.depth2img import Depth2ImgRequest

    if loading.model is None:
        loading = dataclasses.replace(loading, model=f"{EMBEDDED}-depth")
    sd = loading.load()
    request = Depth2ImgRequest(
        prompt=prompt, negative=drawing.negative, options=options, image=image, depth=given, strength=strength,
        resize=resize,
    )  # fmt: skip
    if save_depth is not None:
        save(request.map(sd, request.settings(sd.spec)), save_depth)
    draw(sd, request, destination, saving.as_json)
