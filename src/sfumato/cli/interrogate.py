"""`sfumato interrogate`: what a picture shows."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

PictureFile = Annotated[str, typer.Argument(metavar="PICTURE", help="A picture file.")]
Captions = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Captions to choose from, one a line; else 1,580 names of things that ship."),
]
Language = Annotated[str, typer.Option(help="The language of the names that ship: en, th, zh, id, uk or ja.")]
Top = Annotated[int, typer.Option(help="How many captions.")]
PerceptorFolder = Annotated[
    Path | None,
    typer.Option("--perceptor", "--judge", help="Export folder of `sfumato train clip`; else the one that ships."),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps; else a GPU where there is one.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def interrogate(
    picture: PictureFile,
    captions: Captions = None,
    language: Language = "en",
    top: Top = 5,
    perceptor: PerceptorFolder = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Say what a picture shows: the captions of a list that CLIP finds nearest to it, with their scores.

    The CLIP that ships knows emoji in six languages and little else; train one on pictures of your kind for others.
    """
    from sfumato.images.inputs import load_image
    from sfumato.text.emoji_names import names

    image = load_image(picture)
    known = names(language)

    # Importing torch takes over a second: after what can fail without it.
    from sfumato.pipeline.clip_scorer import PERCEPTOR, load_scorer
    from sfumato.runtime.device import choose_device
    from sfumato.tasks import interrogate as task

    chosen = known if captions is None else task.read_captions(captions)
    found = task.interrogate(load_scorer(perceptor or PERCEPTOR, choose_device(device)), image, chosen, top)
    if as_json:
        typer.echo(json.dumps({"file": picture, "captions": [asdict(match) for match in found]}, ensure_ascii=False))
    else:
        for match in found:
            typer.echo(f"{match.score:.3f}  {match.caption}")
