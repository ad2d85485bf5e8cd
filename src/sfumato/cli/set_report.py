"""Prints what a set of one's own pictures holds: its buckets, its captions as tokens, and what looks wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from sfumato.cli.table import print_table

if TYPE_CHECKING:
    from sfumato.data.pictures.check import Report
    from sfumato.data.pictures.entry import Entry
    from sfumato.text.tokenizer import CLIPTokenizer

SHOWN = 3  # captions
FURTHER = 30  # tokens of a caption beyond its first window


@dataclass(frozen=True)
class TokenReader:
    """How captions are read: the texts of their tokens, and how many a window of the text encoder takes."""

    pieces: Callable[[str], list[str]]
    window: int


def reader_of(tokenizer: CLIPTokenizer, window: int) -> TokenReader:
    """Returns the reader by a tokenizer."""
    return TokenReader(lambda text: [tokenizer.decode([one]) for one in tokenizer.encode(text)], window)


def look_through(entries: Sequence[Entry]) -> Iterable[Entry]:
    """Returns the entries, and moves a bar on stderr while they are looked at."""
    from sfumato.train.preparation import shown

    return shown(entries, "look at pictures")


def print_report(report: Report, batch: int, reader: TokenReader) -> None:
    """Prints a report on stdout, with the steps of an epoch in batches of `batch`."""
    typer.echo(f"pictures  {report.pictures}{_counts(report)}")
    if report.epoch:
        steps = report.epoch / batch
        typer.echo(f"an epoch  {report.epoch} samples, {steps:.4g} steps of {batch}, at {report.resolution} px")
        rows = [(f"{b.size[0]}x{b.size[1]}", str(b.pictures), str(b.samples)) for b in report.buckets]
        print_table([("bucket", "pictures", "samples an epoch"), *rows])
    _print_captions(report.captions, reader)
    for kind, lines in (("error", report.errors), ("note", report.notes)):
        for line in lines:
            typer.echo(f"{kind}: {line}")
    if not report.errors and not report.notes:
        typer.echo("nothing looks wrong")


def _counts(report: Report) -> str:
    parts = [
        f"{count} {what}"
        for count, what in (
            (report.regularisation, "of regularisation"), (report.masks, "with a mask"), (report.held_out, "held out")
        )
        if count
    ]  # fmt: skip
    return f" ({', '.join(parts)})" if parts else ""


def _print_captions(captions: list[str], reader: TokenReader) -> None:
    """How long captions are in tokens, the first of them, and those that are longer than a window."""
    texts = [*dict.fromkeys(captions)]
    read = {text: reader.pieces(text) for text in texts}
    lengths = sorted(map(len, read.values()))
    if not texts:
        return
    middle = lengths[len(lengths) // 2]
    typer.echo(f"captions  {len(texts)} different, of {lengths[0]} to {lengths[-1]} tokens, {middle} in the middle")
    for text in texts[:SHOWN]:
        typer.echo(f"  {'|'.join(read[text][: reader.window]) or '(empty)'}")
    long = [text for text in texts if len(read[text]) > reader.window]
    if long:
        typer.echo(f"  longer than a window of {reader.window} tokens ({len(long)}); the first goes on with:")
        typer.echo(f"  ... {'|'.join(read[long[0]][reader.window :][:FURTHER])}")
