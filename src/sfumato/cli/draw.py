"""What a command does while a task draws: show progress, save every picture the moment it is finished, say where."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from sfumato.cli.output import Destination
from sfumato.cli.status import Level, status
from sfumato.pipeline.events import Picture, Progress

if TYPE_CHECKING:
    from sfumato.api import StableDiffusion
    from sfumato.settings.settings import Settings
    from sfumato.tasks.request import Request


def draw(
    model: StableDiffusion,
    request: Request,
    destination: Destination,
    as_json: bool,
    further: Mapping[str, object] = MappingProxyType({}),
) -> None:
    """Draw what a request asks for; see `follow`. `further` is what JSON reports besides, or in other words."""
    settings = request.settings(model.spec)
    events = request.draw(model, settings)
    draw_events(model, settings, events, destination, as_json, {**request.record(), **further})


def draw_events(
    model: StableDiffusion,
    settings: Settings,
    events: Iterator[Progress | Picture],
    destination: Destination,
    as_json: bool,
    further: Mapping[str, object],
) -> None:
    """Follow the events of a task that draws; see `follow`. `further` are its settings besides `settings`."""
    record = {"model": model.name, **dataclasses.asdict(settings), **further}
    follow(events, settings.draws, record, destination, as_json)


def follow(
    events: Iterator[Progress | Picture],
    pictures: int,
    settings: Mapping[str, object],
    destination: Destination,
    as_json: bool,
) -> None:
    """Follow `events` to their end; whatever ends them early, what was finished is saved and reported.

    `settings` are what JSON reports as such. Raises SfumatoError for a picture that cannot be written, and what the
    task raises.
    """
    started = time.perf_counter()
    done: list[tuple[Path, Picture]] = []
    watch = Watch(pictures)
    try:
        with watch.bar:
            for event in events:
                if isinstance(event, Progress):
                    watch.step(event)
                else:
                    path = destination.save(event.image, event.seed, event.infotext)
                    done.append((path, event))
                    watch.finished(time.perf_counter() - started)
                    if not as_json and not destination.standard_output:
                        watch.bar.stop()  # its line would mix with ours where both streams are one terminal
                        typer.echo(os.fsencode(path))
                        watch.bar.start()
    finally:
        if as_json and done:
            done.sort(key=lambda pair: pair[1].index)
            scores = [picture.score for _, picture in done]
            record = {
                "files": [str(path) for path, _ in done],
                "seeds": [picture.seed for _, picture in done],
                "settings": settings,
                "infotexts": [picture.infotext for _, picture in done],
                **({"scores": scores} if any(scores) else {}),
                "seconds": round(time.perf_counter() - started, 3),
            }
            typer.echo(json.dumps(record))


class Watch:
    """A bar with the time left, or where stderr is no terminal a line for each picture."""

    def __init__(self, pictures: int):
        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeRemainingColumn(),
        )
        self.plain = not console.is_terminal or status.level is Level.QUIET
        # stdout may be a pipe that must get its lines.
        self.bar = Bar(*columns, console=console, transient=True, redirect_stdout=False, disable=self.plain)
        self.task = self.bar.add_task("", total=None)
        self.pictures, self.ready = pictures, 0
        self.steps: dict[int, int] = {}
        self._describe()

    def step(self, event: Progress) -> None:
        self.steps[event.picture] = event.step
        self.bar.update(self.task, completed=sum(self.steps.values()), total=self.pictures * event.steps)

    def finished(self, seconds: float) -> None:
        self.ready += 1
        if self.plain:
            status.say(f"picture {self.ready} of {self.pictures} after {seconds:.1f} s")
        self._describe()

    def _describe(self) -> None:
        self.bar.update(self.task, description=f"picture {min(self.ready + 1, self.pictures)} of {self.pictures}")
