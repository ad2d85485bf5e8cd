"""`sfumato tokens`: how a prompt is read."""

from __future__ import annotations

import json
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.cells import cell_len

from sfumato.cli.from_table import FromTable
from sfumato.cli.options import Loading, Seed, Steps, command
from sfumato.settings.prompt import StyleOptions, WordSettings

if TYPE_CHECKING:
    from sfumato.tasks.tokens import Piece, Reading, Tokens


class Reader(FromTable):
    """How prompts are read."""

    groups = (WordSettings, StyleOptions)


AROUND = 30  # characters shown on either side of what a note is about


@command
def tokens(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="A prompt.")],
    *,
    loading: Loading,
    steps: Steps = None,
    seed: Seed = None,
    reading: Reader,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show how MODEL reads PROMPT, without drawing.

    That is: its tokens in windows, with their weights; what changes over the steps; which adapters it names; and what
    may not be as meant, with a caret under the place. Choices are those of the seed.
    """
    from sfumato.settings.settings import Settings
    from sfumato.tasks import tokens as task

    sd = loading.load()
    options: Any = {**reading.options, "steps": steps, "seed": seed}
    settings = Settings.of(sd.spec, prompt, **options)
    found = task.tokens(sd, settings)
    if as_json:
        typer.echo(json.dumps(found.record()))
        return
    for line in _lines(found):
        typer.echo(line)


def _lines(found: Tokens) -> list[str]:
    lines = [f"prompt    {_printable(found.prompt)}"]
    if found.template != found.prompt:
        lines.append(f"template  {_printable(found.template)}")
    for note in found.notes:
        start = max(0, note.start - AROUND)
        before, about = found.prompt[start : note.start], found.prompt[note.start : note.end][:AROUND]
        rest = found.prompt[note.start + len(about) : note.start + AROUND]
        lines += [
            f"note      {note.text}",
            f"          {_printable(before + about + rest)}",
            f"          {' ' * cell_len(_printable(before))}{'^' * max(1, cell_len(_printable(about)))}",
        ]
    if found.adapters:
        lines.append(f"adapters  {', '.join(found.adapters)}")
    for number, part in enumerate(found.parts, start=1):
        if len(found.parts) > 1:
            lines.append(f"part {number}    weight {part.weight:g}")
        for reading in part.readings:
            lines += _reading(reading, found.window)
    return lines


def _reading(reading: Reading, window: int) -> list[str]:
    steps = f"step {reading.first}" if reading.first == reading.last else f"steps {reading.first} to {reading.last}"
    lines = [f"{steps}: {_printable(reading.text)}"]
    for number, pieces in enumerate(reading.windows, start=1):
        lines.append(f"  window {number}, {len(pieces)} of {window} tokens: {_pieces(pieces)}")
    if reading.t5:
        lines.append(f"  T5, {len(reading.t5)} tokens: {_pieces(reading.t5)}")
    if reading.cut:
        lines.append(f"  too long by {reading.cut} tokens: it cannot be drawn")
    return lines


def _pieces(pieces: tuple[Piece, ...]) -> str:
    """Tokens between bars; those of one weight share it."""
    runs = []
    for weight, run in groupby(pieces, key=lambda piece: piece.weight):
        text = "|".join(_printable(piece.text) for piece in run)
        runs.append(text if weight == 1 else f"({text}):{weight:g}")
    return " ".join(runs)


def _printable(text: str) -> str:
    """On one line, character by character."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
