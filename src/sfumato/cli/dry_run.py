"""`sfumato train METHOD --dry-run`: what a run would learn from, how long it would take and how much memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sfumato.cli.set_report import TokenReader, look_through, print_report, reader_of

if TYPE_CHECKING:
    from sfumato.data.pictures.protocol import SampleSource
    from sfumato.train.dry_run import Estimate
    from sfumato.train.registry import Method
    from sfumato.train.run import Options
    from sfumato.train.task import MethodTask


def dry_run(
    method: Method, recipe: str | Path, data: SampleSource, out: Path, inputs: Mapping[str, Any], options: Options
) -> None:
    """Prints what is in the data, what looks wrong, and what the run would take; see `train.run.run_method`.

    Nothing of the run is written but what it encodes before, which the run then finds. Raises SfumatoError for whatever
    would stop it.
    """
    from sfumato.data.pictures.check import CheckedPictures
    from sfumato.data.pictures.readers.find import OwnPictures
    from sfumato.errors import SfumatoError
    from sfumato.text.tokenizer import CLIPTokenizer
    from sfumato.train.dry_run import estimate
    from sfumato.train.run import built, recipe_of

    batch = recipe_of(method, recipe, options).loop.batch
    checked = CheckedPictures(data.path, batch, look_through) if isinstance(data, OwnPictures) else None
    clip = CLIPTokenizer.openai()
    reader = reader_of(clip, clip.max_length - 2)
    try:
        task, device = built(method, recipe, checked or data, out, inputs, options)
        reader = _reader(task) or reader
    except SfumatoError:
        _print_reports(checked, batch, reader)
        raise
    _print_reports(checked, batch, reader)
    _print_estimate(estimate(task, device), task)


def _print_reports(checked: Any, batch: int, reader: TokenReader) -> None:
    for report in checked.reports if checked else ():
        print_report(report, batch, reader)


def _reader(task: MethodTask) -> TokenReader | None:
    """How the task's model reads captions, if it has one."""
    model = getattr(task, "base", None)
    return None if model is None else reader_of(model.encode.tokenizer, model.encode.window)


def _print_estimate(found: Estimate, task: MethodTask) -> None:
    typer.echo(f"learns    {found.learnt:,} numbers")
    samples = found.steps * found.batch
    epoch = getattr(getattr(task, "pictures", None), "epoch", 0)
    epochs = f", {samples / epoch:.3g} epochs" if epoch else ""
    typer.echo(f"steps     {found.steps:,} of {found.batch}: {samples:,} samples{epochs}")
    typer.echo(
        f"time      {found.seconds:.3g} s a step on {found.device}, {_clock(found.seconds * found.steps)} in all"
    )
    if found.memory:
        typer.echo(f"memory    {found.memory / 2**30:.2f} GiB at most, measured in a step")


def _clock(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60:02d} min" if hours else f"{rest // 60} min {rest % 60:02d} s"
