"""`sfumato score`: how much people would like pictures."""

from __future__ import annotations

import json
from typing import Annotated

import typer

Pictures = Annotated[list[str], typer.Argument(metavar="PICTURE...", help="Picture files.")]
Aesthetic = Annotated[
    str,
    typer.Option(metavar="FILE", help="One of LAION's aesthetic predictors, such as sac+logos+ava1-l14-linearMSE.pth."),
]
ClipVision = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="The image encoder that it reads, CLIP ViT-L/14 for most: a file, a folder, or a name in the model "
        "folders. Default: the one in the folder clip_vision that fits.",
    ),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps; else a GPU where there is one.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def score(
    pictures: Pictures,
    aesthetic: Aesthetic,
    clip_vision: ClipVision = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Say how much people would like pictures, from about 1 to 10, the best first.

    With `--best-of 8 --aesthetic FILE` the tasks that draw keep what the predictor likes best.
    """
    from sfumato.images.inputs import load_image

    images = {name: load_image(name) for name in pictures}

    # Importing torch takes over a second: after what can fail without it.
    from sfumato.pipeline.aesthetic import load_aesthetic

    scorer = load_aesthetic(aesthetic, clip_vision, device)
    found = sorted(((round(scorer(image), 4), name) for name, image in images.items()), reverse=True)
    if as_json:
        scores = [{"file": name, "score": value} for value, name in found]
        typer.echo(json.dumps({"predictor": scorer.name, "scores": scores}, ensure_ascii=False))
    else:
        for value, name in found:
            typer.echo(f"{value:.3f}  {name}")
