"""`sfumato outpaint`: draw a picture on beyond its edges."""

from __future__ import annotations

from sfumato.cli.img2img import Pictures
from sfumato.cli.options import Drawing, Loading, Saving, command
from sfumato.cli.sources import from_stdin, pictures_and_prompt
from sfumato.settings.task_options import Margins, OutpaintOptions


@command
def outpaint(
    pictures: Pictures,
    *,
    margins: Margins,
    how: OutpaintOptions,
    loading: Loading,
    drawing: Drawing,
    saving: Saving,
) -> None:
    """Draw a picture on beyond its edges, by any amount on any side.

    Large amounts are added in pieces. --size is what the model draws at once, and by default its own size. The old
    picture, but for --overlap, comes back bit by bit, if it is saved as PNG or WebP.

    The results are saved as `sfumato txt2img` saves its pictures.

    Example: sfumato outpaint photo.png "a beach" --left 128 --out wide.png
    """
    from sfumato.images.inputs import load_image

    names, prompt = pictures_and_prompt(pictures)
    destination = saving.destination(drawing.n, len(names))
    images = [load_image(from_stdin(name)) for name in names]

    # Importing torch takes over a second: after what can fail without it.
    from sfumato.cli.draw import draw
    from sfumato.tasks.outpaint import OutpaintMargins, OutpaintRequest

    sides, sd = OutpaintMargins(**vars(margins)), loading.load()
    for name, image in zip(names, images, strict=True):
        request = OutpaintRequest(
            prompt=prompt, negative=drawing.negative, options=drawing.options, image=image, margins=sides, **vars(how)
        )
        draw(sd, request, destination.for_source(name), saving.as_json, {"picture": name})
