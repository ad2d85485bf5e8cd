"""Work that a run does before its first step, such as encoding latents: shown by a bar, kept in files, resumable."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn, track
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from sfumato.files import atomic_write

Tensors = dict[str, Tensor]
T = TypeVar("T")


def shown(parts: Collection[T], what: str) -> Iterable[T]:
    """Returns the parts, and moves a bar on stderr while they are taken; it is shown if stderr is a terminal."""
    console = Console(stderr=True)
    return track(parts, what, console=console, transient=True, disable=not console.is_terminal)


def prepared(folder: Path, count: int, make: Callable[[range], Tensors], chunk: int, what: str) -> Tensors:
    """Returns rows 0 .. count - 1 of what `make` returns, joined: tensors (count, ...) by name, on the CPU.

    `make(numbers)` returns the rows with these numbers, at most `chunk` of them. Each chunk is kept in a file of
    `folder`, so a stopped run goes on after its last whole chunk, and the next run reads all of them. The folder's name
    must name everything that the rows depend on. `what` labels the bar on stderr, such as "encode pictures"; if stderr
    is no terminal, a line reports each tenth.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console, parts = Console(stderr=True), []
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=count)
        for start in range(0, count, chunk):
            numbers = range(start, min(start + chunk, count))
            # Chunks of other lengths have other names: whoever asks for more rows makes the last chunk again.
            cut = "" if len(numbers) == chunk else f"-{len(numbers)}"
            file = folder / f"{start // chunk:05d}{cut}.safetensors"
            found = file.is_file()
            parts.append(kept(file, partial(make, numbers)))
            bar.advance(task, len(numbers))
            tenths = 10 * numbers.stop // count - 10 * numbers.start // count
            if not found and tenths and not console.is_terminal:
                print(f"{what} {numbers.stop}/{count}", file=sys.stderr, flush=True)
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def kept(file: Path, make: Callable[[], Tensors]) -> Tensors:
    """Returns the tensors in a file, on the CPU, or what `make` returns, which is then written to it.

    A damaged file is made anew.
    """
    with suppress(OSError, SafetensorError):
        return load_file(file)
    rows = {name: value.cpu().contiguous() for name, value in make().items()}
    with atomic_write(file) as out:
        out.write(save(rows))
    return rows
