"""`sfumato txt2img`: draw pictures from words."""

from __future__ import annotations

from typing import Annotated

import typer

from sfumato.cli.options import Drawing, Hires, Loading, Saving, Size, command, with_size

Prompt = Annotated[str, typer.Argument(metavar="PROMPT", help="What to draw, in words.")]
Refiner = Annotated[
    str | None, typer.Option(metavar="MODEL", help="A model, such as XL's refiner, that finishes what MODEL began.")
]
SwitchAt = Annotated[
    float | None,
    typer.Option(help="After which share of the noise schedule the refiner goes on, from 0 to 1; else 0.8."),
]


@command
def txt2img(
    prompt: Prompt,
    *,
    loading: Loading,
    size: Size = None,
    drawing: Drawing,
    refiner: Refiner = None,
    switch_at: SwitchAt = None,
    hires: Hires,
    saving: Saving,
) -> None:
    """Draw pictures from words.

    What is not given is the model's own default.

    Every picture is saved the moment it is finished, with its settings in the file. Ctrl-C stops and keeps them. The
    files' names are printed on stdout, progress on stderr.
    """
    from sfumato.cli.output import Destination

    options = with_size(drawing.options(), size)
    destination = Destination.of(saving.out, drawing.n)
    destination.check()

    # Importing torch takes over a second: after what can fail without it.
    import sfumato
    from sfumato.cli.draw import draw
    from sfumato.tasks.txt2img import Txt2ImgRequest

    sd = loading.load()
    second = None if refiner is None else sfumato.load(refiner, loading.device, loading.dtype)
    options |= {
        "switch_at": switch_at,
        "hires_scale": hires.hires_scale,
        "hires_strength": hires.hires_strength,
        "hires_steps": hires.hires_steps,
        "hires_upscaler": hires.hires_upscaler,
    }
    request = Txt2ImgRequest(prompt=prompt, negative=drawing.negative, options=options, refiner=second)
    draw(sd, request, destination, saving.as_json)
