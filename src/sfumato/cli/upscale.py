"""`sfumato upscale`: draw a picture larger."""

from __future__ import annotations

from typing import Annotated

import typer

from sfumato.cli.options import Drawing, Loading, Saving, command

PictureFile = Annotated[str, typer.Argument(metavar="PICTURE", help="A PNG, JPEG or WebP file.")]
Prompt = Annotated[str, typer.Argument(metavar="[PROMPT]", help="What the picture shows, in words.")]
NoiseLevel = Annotated[
    int, typer.Option(help="From 0, which keeps closest to the picture, to 350, which lets the model invent more.")
]


@command
def upscale(
    picture: PictureFile,
    prompt: Prompt = "",
    *,
    loading: Loading,
    noise_level: NoiseLevel = 20,
    drawing: Drawing,
    saving: Saving,
) -> None:
    """Draw a picture four times as wide and high, with an upscaler as --model.

    What is not given is the model's own default.

    The result is saved as `sfumato txt2img` saves its pictures.
    """
    from sfumato.cli.output import Destination
    from sfumato.provenance.picture import open_image

    options = drawing.options()
    destination = Destination.of(saving.out, drawing.n)
    destination.check()
    image = open_image(picture)

    # Importing torch takes over a second: after what can fail without it.
    from sfumato.cli.draw import draw
    from sfumato.tasks import upscale as task
    from sfumato.tasks.settings import Settings, sized

    sd = loading.load()
    settings = Settings.of(sd.spec, prompt, drawing.negative, **sized(options, *task.large_size(sd, image)))
    events = task.upscale(sd, image, settings, noise_level)
    draw(sd, settings, events, destination, saving.as_json, {"noise_level": noise_level})
