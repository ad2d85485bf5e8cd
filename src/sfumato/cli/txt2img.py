"""`sfumato txt2img`: draw pictures from words."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sfumato.cli.options import Drawing, Hires, Loading, Refining, Saving, command
from sfumato.cli.sources import prompt_of

Prompt = Annotated[
    str, typer.Argument(metavar="PROMPT", help="What to draw, in words; - reads it from standard input.")
]
Refiner = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL", help="A model, such as XL's refiner, that finishes what MODEL began.", rich_help_panel="XL"
    ),
]


@command
def txt2img(
    prompt: Prompt,
    *,
    loading: Loading,
    drawing: Drawing,
    refiner: Refiner = None,
    refining: Refining,
    hires: Hires,
    saving: Saving,
) -> None:
    """Draw pictures from words.

    Every picture is saved the moment it is finished, with its settings in the file. Ctrl-C stops and keeps them. The
    files' names are printed on stdout, progress on stderr.

    Example: sfumato txt2img "a red heart" --seed 7 --out heart.png
    """
    options: Any = {**drawing.options, **refining.options, **hires.options}
    destination = saving.destination(drawing.n)
    prompt = prompt_of(prompt)

    # Importing torch takes over a second: after what can fail without it.
    import sfumato
    from sfumato.cli.draw import draw
    from sfumato.tasks.txt2img import Txt2ImgRequest

    sd = loading.load()
    second = None if refiner is None else sfumato.load(refiner, loading.device, loading.dtype)
    request = Txt2ImgRequest(prompt=prompt, negative=drawing.negative, options=options, refiner=second)
    draw(sd, request, destination, saving.as_json)
