"""`sfumato interpolate`: from one picture to another, frame by frame."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from sfumato.cli.from_table import BASIC
from sfumato.cli.options import Drawing, Json, Loading, Overwrite, command
from sfumato.cli.status import status
from sfumato.errors import SfumatoError
from sfumato.settings.task_options import InterpolateOptions

Prompts = Annotated[list[str], typer.Argument(metavar="PROMPT...", help="One prompt, or those to go through.")]
Seeds = Annotated[
    str | None,
    typer.Option(metavar="N,N...", help="Seeds to go through, one for each prompt; else --seed for all."),
]
Fps = Annotated[float, typer.Option(min=0.1, max=240, help="How many of them are shown in a second.")]
Out = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|FOLDER", help="A .gif, .webp, .png (moving) or .mp4 file; or a folder for frames. "
        "Default: motion.gif.", rich_help_panel=BASIC, show_default=False,
    ),
]  # fmt: skip


@command
def interpolate(
    prompts: Prompts,
    *,
    seeds: Seeds = None,
    fps: Fps = 12,
    way: InterpolateOptions,
    loading: Loading,
    drawing: Drawing,
    out: Out = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Draw the way from prompt to prompt, from seed to seed, or both at once.

    A sampler that adds noise on the way (those in "a" or "SDE") makes frames jump.
    """
    from sfumato.cli.output import check_free, free_name
    from sfumato.files import check_writable
    from sfumato.images.files import save
    from sfumato.images.video import check_motion, save_motion

    options = drawing.options
    if drawing.n != 1:
        raise SfumatoError("every frame is one picture; leave --number out, and say --frames")
    out = free_name("motion.gif", overwrite) if out is None else out
    path, moving = Path(out), bool(Path(out).suffix) and not out.endswith("/")
    if moving:
        check_motion(path)
    for file in [path] if moving else [path / f"{index:04}.png" for index in range(way.frames)]:
        check_free(file, overwrite)
    check_writable(path.parent if moving else path)
    numbers = _numbers(seeds)

    # Importing torch takes over a second: after what can fail without it.
    from sfumato.pipeline.events import Picture
    from sfumato.tasks.interpolate import InterpolateRequest

    sd = loading.load()
    request = InterpolateRequest(
        prompts=prompts, negative=drawing.negative, options=options, seeds=numbers, **vars(way)
    )
    pictures: dict[int, Picture] = {}
    with closing(sd.events(request)) as events:
        for event in events:
            if isinstance(event, Picture):
                pictures[event.index] = event
                if not moving:
                    save(event.image, path / f"{event.index:04}.png", event.infotext)
                status.say(f"frame {len(pictures)} of {way.frames}")
    if moving:
        save_motion([pictures[k].image for k in range(way.frames)], path, fps)
    infotexts = [pictures[k].infotext for k in range(way.frames)]
    typer.echo(json.dumps({"file": out, "frames": way.frames, "fps": fps, "infotexts": infotexts}) if as_json else out)


def _numbers(text: str | None) -> list[int]:
    try:
        return [int(part) for part in text.split(",")] if text else []
    except ValueError:
        raise SfumatoError(f"the seeds are {text!r}; give whole numbers, such as 1,7,3") from None
