"""`sfumato img2img`: draw pictures on top of a picture."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from sfumato.cli.options import Drawing, Loading, Saving, Size, command, with_size

PictureFile = Annotated[str, typer.Argument(metavar="PICTURE", help="A PNG, JPEG, WebP, GIF or BMP file.")]
Prompt = Annotated[str, typer.Argument(metavar="[PROMPT]", help="What to draw, in words.")]
Strength = Annotated[
    float, typer.Option(help="How much is drawn anew: 0 gives the picture back, 1 takes nothing of it.")
]
Resize = Annotated[
    Literal["crop", "stretch", "pad"],
    typer.Option(help="How the picture comes to another --size: crop what is too much, stretch, or pad with edges."),
]


@command
def img2img(
    picture: PictureFile,
    prompt: Prompt = "",
    *,
    strength: Strength = 0.75,
    resize: Resize = "crop",
    loading: Loading,
    size: Size = None,
    drawing: Drawing,
    saving: Saving,
) -> None:
    """Draw pictures on top of a picture.

    Without --size the picture keeps its own, in the steps that the model can draw; very large ones are scaled down.

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
    from sfumato.tasks.img2img import Img2ImgRequest

    request = Img2ImgRequest(
        prompt=prompt, negative=drawing.negative, options=options, image=image, strength=strength, resize=resize
    )
    draw(loading.load(), request, destination, saving.as_json)
