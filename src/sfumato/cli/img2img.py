"""`sfumato img2img`: draw pictures on top of a picture."""

from __future__ import annotations

from typing import Annotated

import typer

from sfumato.cli.options import Drawing, Loading, Saving, command
from sfumato.cli.sources import from_stdin, pictures_and_prompt
from sfumato.settings.task_options import Img2ImgOptions

Pictures = Annotated[
    list[str],
    typer.Argument(
        metavar="PICTURE... [PROMPT]",
        help="PNG, JPEG, WebP, GIF or BMP files, patterns of them in quotes, or - for standard input; then what to "
        "draw, in words.",
    ),
]


@command
def img2img(
    pictures: Pictures,
    *,
    how: Img2ImgOptions,
    loading: Loading,
    drawing: Drawing,
    saving: Saving,
) -> None:
    """Draw pictures on top of a picture.

    Without --size the picture keeps its own, in the steps that the model can draw; very large ones are scaled down.

    The results are saved as `sfumato txt2img` saves its pictures.

    Example: sfumato img2img cat.png "a tiger" --strength 0.6 --out tiger.png
    """
    from sfumato.images.inputs import load_image

    names, prompt = pictures_and_prompt(pictures)
    destination = saving.destination(drawing.n, len(names))
    images = [load_image(from_stdin(name)) for name in names]

    # Importing torch takes over a second: after what can fail without it.
    from sfumato.cli.draw import draw
    from sfumato.tasks.img2img import Img2ImgRequest

    sd = loading.load()
    for name, image in zip(names, images, strict=True):
        request = Img2ImgRequest(
            prompt=prompt, negative=drawing.negative, options=drawing.options, image=image, **vars(how)
        )
        draw(sd, request, destination.for_source(name), saving.as_json, {"picture": name})
