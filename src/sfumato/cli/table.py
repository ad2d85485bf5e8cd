"""Tables on stdout."""

from __future__ import annotations

from collections.abc import Sequence

import typer


def print_table(lines: Sequence[Sequence[str]]) -> None:
    """The lines, all of one length, in columns."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        typer.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
