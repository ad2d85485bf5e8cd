"""`sfumato depth2img`: draw pictures with the depth of a picture."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from sfumato.cli.options import Drawing, Loading, Saving, command
from sfumato.cli.sources import from_stdin, prompt_of
from sfumato.settings.task_options import Depth2ImgOptions

PictureFile = Annotated[
    str, typer.Argument(metavar="PICTURE", help="A PNG, JPEG or WebP file, or - for standard input.")
]
Prompt = Annotated[str, typer.Argument(metavar="[PROMPT]", help="What to draw, in words.")]
DepthFile = Annotated[
    str | None,
    typer.Option("--depth", metavar="FILE", help="A picture of depth, the nearest brightest; else it is estimated."),
]
OnlyDepth = Annotated[bool, typer.Option("--is-depth", help="PICTURE itself is a picture of depth.")]
SeenFile = Annotated[Path | None, typer.Option("--save-depth", metavar="FILE", help="Keep the depth that is told.")]


@command
def depth2img(
    picture: PictureFile,
    prompt: Prompt = "",
    *,
    depth: DepthFile = None,
    is_depth: OnlyDepth = False,
    how: Depth2ImgOptions,
    save_depth: SeenFile = None,
    loading: Loading,
    drawing: Drawing,
    saving: Saving,
) -> None:
    """Draw pictures with the depth of a picture, in other words and colours.

    Without --model the embedded depth model draws. The result is saved as `sfumato txt2img` saves its pictures.
    """
    from sfumato.cli.output import check_free
    from sfumato.images.files import save
    from sfumato.images.inputs import load_image

    options = drawing.options
    destination = saving.destination(drawing.n).for_source(picture)
    if save_depth is not None:
        check_free(save_depth, saving.overwrite)
    first, prompt = load_image(from_stdin(picture)), prompt_of(prompt)
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
        prompt=prompt, negative=drawing.negative, options=options, image=image, depth=given, **vars(how)
    )  # fmt: skip
    if save_depth is not None:
        save(request.map(sd, request.settings(sd.spec)), save_depth)
    draw(sd, request, destination, saving.as_json)
