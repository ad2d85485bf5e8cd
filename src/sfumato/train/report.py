"""The report of a run: a progress bar or lines on stderr, a JSONL file, and TensorBoard."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from sfumato.files import atomic_write

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LOG = "log.jsonl"


def duration(seconds: float) -> str:
    """Returns seconds as hours, minutes and seconds: "1:02:03"."""
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


class Report:
    """The report of a run that goes from step `start` to `steps`.

    Records after `start` were written by an earlier run that was interrupted, and are dropped.
    """

    def __init__(self, run: Path, start: int, steps: int):
        self._path = run / LOG
        self._steps = steps
        self._start, self._began = start, time.monotonic()
        self._drop_after(start)
        self._file = self._path.open("a", encoding="utf-8")
        self._board = _tensorboard(run, start)
        self._bar: Progress | None = None
        if sys.stderr.isatty():
            from rich.console import Console

            columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, TextColumn("{task.description}"), console=Console(stderr=True))
            self._task = self._bar.add_task("", total=steps, completed=start)

    def __enter__(self) -> Report:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar:
            self._bar.stop()
        self._file.close()
        if self._board:
            self._board.close()

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Records the values that `step` steps have reached, and shows them."""
        self._file.write(json.dumps({"step": step} | values) + "\n")
        self._file.flush()
        if self._board:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)
        text = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        if self._bar:
            self._bar.update(self._task, completed=step, description=text)
        else:
            left = (time.monotonic() - self._began) / max(step - self._start, 1) * (self._steps - step)
            self.say(f"{step}/{self._steps}  {text}  left {duration(left)}")

    def advance(self, step: int) -> None:
        """Moves the bar to a step without a record."""
        if self._bar:
            self._bar.update(self._task, completed=step)

    def say(self, line: str) -> None:
        """Shows one line on stderr."""
        if self._bar:
            self._bar.console.print(line, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)

    def _drop_after(self, start: int) -> None:
        if not self._path.exists():
            return
        lines = self._path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if line.endswith(b"\n") and json.loads(line)["step"] <= start]
        with atomic_write(self._path) as file:
            file.writelines(kept)


def _tensorboard(run: Path, start: int) -> SummaryWriter | None:
    """Returns a TensorBoard writer, or None if the package is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(run / "tensorboard"), purge_step=start or None)
