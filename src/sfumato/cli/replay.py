"""`sfumato replay`: draw a picture again from what its file says."""

from __future__ import annotations

from typing import Annotated

import typer

from sfumato.cli.options import Json, Loading, Out, Overwrite, command
from sfumato.cli.status import status

PictureFile = Annotated[
    str, typer.Argument(metavar="FILE", help="A picture as its program saved it, or a .txt or .json file of settings.")
]
Source = Annotated[
    str | None, typer.Option("--picture", metavar="FILE", help="What the picture was drawn on top of, if it was.")
]
FromWords = Annotated[
    bool, typer.Option("--from-words", help="It was drawn from words alone, whatever strength the file names.")
]
RefinerName = Annotated[
    str | None, typer.Option("--refiner", metavar="MODEL", help="What went on from MODEL; else the one in the file.")
]
Hints = Annotated[
    list[str] | None,
    typer.Option("--control-picture", metavar="FILE", help="The picture of a ControlNet; again for the next ones."),
]
Explain = Annotated[bool, typer.Option("--explain", help="Only say what would be drawn, by which rules.")]


@command
def replay(
    file: PictureFile,
    *,
    picture: Source = None,
    from_words: FromWords = False,
    refiner: RefinerName = None,
    control_picture: Hints = None,
    loading: Loading,
    out: Out = None,
    explain: Explain = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Draw a picture again: one of ours, or of AUTOMATIC1111's web UI and its kin, ComfyUI, InvokeAI, SwarmUI, Fooocus
    and its kin, NovelAI, Easy Diffusion, Draw Things or SD.Next.

    Says on stderr whose rules are followed and what cannot be honoured. Without --model the one is taken that the
    file names, by hash or name, if it is on this machine.
    """
    import dataclasses
    import json

    from sfumato.cli.output import Destination
    from sfumato.images.inputs import load_image

    destination = Destination.of(out, 1, overwrite=overwrite)
    destination.check(as_json)
    image = None if picture is None else load_image(picture)
    hints = [load_image(one, "the picture of a control") for one in control_picture or ()]

    # Importing torch takes over a second: after what can fail without it.
    from sfumato.cli.draw import draw_events
    from sfumato.provenance.read import read
    from sfumato.tasks import replay as task

    recipe = read(file)
    if explain:
        typer.echo(json.dumps(dataclasses.asdict(recipe), ensure_ascii=False, indent=None if as_json else 1))
        return
    if loading.model is None:
        loading = dataclasses.replace(loading, model=task.model_of(recipe))
    sd = loading.load()
    named = refiner or task.refiner_of(recipe)
    second = None if named is None else dataclasses.replace(loading, model=named).load()
    settings, events = task.replay(sd, recipe, image, refiner=second, from_words=from_words, hints=hints)
    status.say(f"drawn by {recipe.program}")
    for kind, lines in (("rule", recipe.rules), ("not honoured", recipe.lost)):
        for line in lines:
            status.say(f"{kind}: {line}")
    further = {"program": recipe.program, "rules": recipe.rules, "not_honoured": recipe.lost}
    draw_events(sd, settings, events, destination, as_json, further)
