"""`sfumato upscale`: make a picture larger, by its pixels or by drawing."""

from __future__ import annotations

from dataclasses import replace

from sfumato.cli.img2img import Pictures
from sfumato.cli.options import Loading, Redrawing, Saving, command
from sfumato.cli.sources import STDIN, from_stdin, pictures_and_prompt
from sfumato.errors import SfumatoError
from sfumato.settings.task_options import UpscaleOptions


@command
def upscale(
    pictures: Pictures,
    *,
    how: UpscaleOptions,
    loading: Loading,
    drawing: Redrawing,
    saving: Saving,
) -> None:
    """Make a picture larger, of whatever size.

    With --upscaler alone its pixels become more and nothing is drawn. With a prompt, --model or --strength, or without
    an upscaler, a model draws over the enlarged picture window by window. The x4 upscaler as --model needs neither
    scale nor pixel upscaler.

    The results are saved as `sfumato txt2img` saves its pictures.

    Example: sfumato upscale small.png "a red heart" --scale 2 --out large.png
    """
    from sfumato.images.inputs import load_image
    from sfumato.provenance.embedded import read_infotext

    names, prompt = pictures_and_prompt(pictures)
    pixels_alone = how.upscaler is not None and not prompt and how.strength is None and loading.model is None
    if pixels_alone and (drawing.said or how.noise_level is not None):
        raise SfumatoError("an upscaler of pixels draws nothing; give --model, --strength or a prompt to draw as well")
    destination = saving.destination(drawing.n, len(names))
    images = [load_image(from_stdin(name)) for name in names]

    # Importing torch takes over a second: after what can fail without it.
    from sfumato.cli.draw import draw, follow
    from sfumato.loading.upscalers import load_upscaler
    from sfumato.pipeline.pixel_upscaling import by_pixels
    from sfumato.runtime.device import INT8
    from sfumato.tasks.upscale import UpscaleRequest

    dtype = None if loading.dtype == INT8 else loading.dtype  # which is for the network that draws
    pixels = None if how.upscaler is None else load_upscaler(how.upscaler, loading.device, dtype)
    sd = None if pixels_alone else loading.load()
    for name, image in zip(names, images, strict=True):
        where = destination.for_source(name)
        if sd is None:
            assert pixels is not None
            text = "" if name == STDIN else read_infotext(name) or ""
            record = {"upscaler": pixels.name, "scale": how.scale}
            follow(by_pixels(image, pixels, how.scale, text), 1, record, where, saving.as_json)
            continue
        request = UpscaleRequest(
            prompt=prompt, negative=drawing.negative, options=drawing.options, image=image,
            how=replace(how, upscaler=pixels),
        )  # fmt: skip
        draw(sd, request, where, saving.as_json, {"picture": name, "upscaler": how.upscaler})
