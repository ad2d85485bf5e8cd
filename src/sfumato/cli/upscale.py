"""`sfumato upscale`: make a picture larger, by its pixels or by drawing."""

from __future__ import annotations

from typing import Annotated

import typer

from sfumato.cli.options import Drawing, Loading, Saving, command
from sfumato.cli.output import Destination
from sfumato.errors import SfumatoError

PictureFile = Annotated[str, typer.Argument(metavar="PICTURE", help="A PNG, JPEG or WebP file.")]
Prompt = Annotated[str | None, typer.Argument(metavar="[PROMPT]", help="What the picture shows, in words.")]
Scale = Annotated[
    float | None, typer.Option(help="How many times as wide and high; else what the upscaler does by itself, or 2.")
]
Upscaler = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="A pixel upscaler: ESRGAN, Real-ESRGAN, or what spandrel knows; else Lanczos."),
]
Strength = Annotated[
    float | None, typer.Option(help="How much is drawn anew, from 0 to 1; else 0.3. Not of the x4 upscaler.")
]
NoiseLevel = Annotated[
    int | None,
    typer.Option(help="Of the x4 upscaler: from 0, which keeps closest to the picture, to 350; else 20."),
]
Overlap = Annotated[float, typer.Option(help="The part of their sides that neighbouring windows share, up to 0.5.")]


@command
def upscale(
    picture: PictureFile,
    prompt: Prompt = None,
    *,
    scale: Scale = None,
    upscaler: Upscaler = None,
    strength: Strength = None,
    noise_level: NoiseLevel = None,
    overlap: Overlap = 0.25,
    loading: Loading,
    drawing: Drawing,
    saving: Saving,
) -> None:
    """Make a picture larger, of whatever size.

    With --upscaler alone its pixels become more and nothing is drawn. With a prompt, --model or --strength, or without
    an upscaler, a model draws over the enlarged picture window by window. The x4 upscaler as --model needs neither
    scale nor pixel upscaler.

    What is not given is the model's own default. The result is saved as `sfumato txt2img` saves its pictures.
    """
    from sfumato.images.inputs import load_image
    from sfumato.provenance.embedded import read_infotext

    pixels_alone = upscaler is not None and prompt is None and strength is None and loading.model is None
    if pixels_alone and (drawing != Drawing() or noise_level is not None):
        raise SfumatoError("an upscaler of pixels draws nothing; give --model, --strength or a prompt to draw as well")
    options = drawing.options()
    destination = Destination.of(saving.out, drawing.n)
    destination.check()
    image = load_image(picture)

    # Importing torch takes over a second: after what can fail without it.
    from sfumato.cli.draw import draw, follow
    from sfumato.loading.upscalers import load_upscaler
    from sfumato.pipeline.pixel_upscaling import by_pixels
    from sfumato.tasks.upscale import UpscaleOptions, UpscaleRequest

    pixels = None if upscaler is None else load_upscaler(upscaler, loading.device, loading.dtype)
    if pixels is not None and pixels_alone:
        text = read_infotext(picture) or ""
        record = {"upscaler": pixels.name, "scale": scale}
        follow(by_pixels(image, pixels, scale, text), 1, record, destination, saving.as_json)
        return
    how = UpscaleOptions(scale, pixels, strength, noise_level, overlap)
    request = UpscaleRequest(prompt=prompt or "", negative=drawing.negative, options=options, image=image, how=how)
    draw(loading.load(), request, destination, saving.as_json, {"upscaler": upscaler})
