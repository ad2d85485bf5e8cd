"""Tables on stdout, no wider than the terminal."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence

import typer

GAP = 2
INDENT = 4


def print_table(lines: Sequence[Sequence[str]], width: int | None = None) -> None:
    """Print lines, all of one length, in columns; the first line has the columns' names.

    Columns for which there is no room stand below their line, each with its name. `width` is the terminal's by default,
    and 80 where there is none.
    """
    width = width or shutil.get_terminal_size().columns
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    fitting = [n for n in range(1, len(widths) + 1) if sum(widths[:n]) + GAP * (n - 1) <= width]
    shown = max(fitting, default=1)
    for number, line in enumerate(lines):
        cells = [text.ljust(size) for text, size in zip(line[:shown], widths, strict=False)]
        typer.echo((" " * GAP).join(cells).rstrip())
        if number == 0:
            continue
        rest = [f"{name.lower()}: {text}" for name, text in zip(lines[0][shown:], line[shown:], strict=True) if text]
        below = " " * INDENT
        for part in textwrap.wrap(
            "; ".join(rest), width, initial_indent=below, subsequent_indent=below, break_long_words=False,
            break_on_hyphens=False,
        ):  # fmt: skip
            typer.echo(part)
