"""`sfumato interpolate`: from one picture to another, frame by frame."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from sfumato.cli.options import Drawing, Json, Loading, Size, command, with_size
from sfumato.errors import SfumatoError

Prompts = Annotated[list[str], typer.Argument(metavar="PROMPT...", help="One prompt, or those to go through.")]
Seeds = Annotated[
    str | None,
    typer.Option(metavar="N,N...", help="Seeds to go through, one for each prompt; else --seed for all."),
]
Frames = Annotated[int, typer.Option(help="How many pictures, the first and the last included.")]
Fps = Annotated[float, typer.Option(min=0.1, max=240, help="How many of them are shown in a second.")]
Loop = Annotated[bool, typer.Option("--loop", help="Go back to the first at the end.")]
Out = Annotated[
    str,
    typer.Option(metavar="FILE|FOLDER", help="A .gif, .webp, .png (moving) or .mp4 file; or a folder for frames."),
]


@command
def interpolate(
    prompts: Prompts,
    *,
    seeds: Seeds = None,
    frames: Frames = 24,
    fps: Fps = 12,
    loop: Loop = False,
    loading: Loading,
    size: Size = None,
    drawing: Drawing,
    out: Out = "motion.gif",
    as_json: Json = False,
) -> None:
    """Draw the way from prompt to prompt, from seed to seed, or both at once.

    A sampler that adds noise on the way (those in "a" or "SDE") makes frames jump.
    """
    from sfumato.files import check_writable
    from sfumato.images.files import save
    from sfumato.images.video import check_motion, save_motion

    options = with_size(drawing.options(), size)
    if drawing.n != 1:
        raise SfumatoError("every frame is one picture; leave --number out, and say --frames")
    path, moving = Path(out), bool(Path(out).suffix) and not out.endswith("/")
    if moving:
        check_motion(path)
    check_writable(path.parent if moving else path)
    numbers = _numbers(seeds)

    # Importing torch takes over a second: after what can fail without it.
    from sfumato.pipeline.events import Picture
    from sfumato.tasks.interpolate import InterpolateRequest

    sd = loading.load()
    request = InterpolateRequest(
        prompts=prompts, negative=drawing.negative, options=options, seeds=numbers, frames=frames, loop=loop
    )
    pictures: dict[int, Picture] = {}
    with closing(sd.events(request)) as events:
        for event in events:
            if isinstance(event, Picture):
                pictures[event.index] = event
                if not moving:
                    save(event.image, path / f"{event.index:04}.png", event.infotext)
                typer.echo(f"frame {len(pictures)} of {frames}", err=True)
    if moving:
        save_motion([pictures[k].image for k in range(frames)], path, fps)
    infotexts = [pictures[k].infotext for k in range(frames)]
    typer.echo(json.dumps({"file": out, "frames": frames, "fps": fps, "infotexts": infotexts}) if as_json else out)


def _numbers(text: str | None) -> list[int]:
    try:
        return [int(part) for part in text.split(",")] if text else []
    except ValueError:
        raise SfumatoError(f"the seeds are {text!r}; give whole numbers, such as 1,7,3") from None
