"""The report of a run: a progress bar or lines on stderr, a JSONL file, TensorBoard, and Weights & Biases if asked."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from sfumato.errors import SfumatoError
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

    Records after `start` were written by an earlier run that was interrupted, and are dropped. `state` is what the
    earlier run's report had gathered for its next record. With `silent`, of processes that another one reports for,
    nothing is shown and nothing written. `wandb` is the project of Weights & Biases that gets the figures too ("":
    none); SfumatoError says if that package is missing.
    """

    def __init__(
        self,
        run: Path,
        start: int,
        steps: int,
        state: dict[str, Any] | None = None,
        silent: bool = False,
        wandb: str = "",
    ):
        self._silent = silent
        self._window = Window(state)
        self._path = run / LOG
        self._steps = steps
        self._start, self._began = start, time.monotonic()
        if not silent:
            self._drop_after(start)
        self._file = (Path(os.devnull) if silent else self._path).open("a", encoding="utf-8")
        self._board = None if silent else _tensorboard(run, start)
        self._wandb = _wandb(wandb, run) if wandb and not silent else None
        self._bar: Progress | None = None
        if sys.stderr.isatty() and not silent:
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
        if self._wandb:
            self._wandb.finish(exit_code=int(error is not None))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Records the values that `step` steps have reached, and shows them."""
        self._file.write(json.dumps({"step": step} | values) + "\n")
        self._file.flush()
        if self._board:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)
        if self._wandb:
            self._wandb.log(values, step=step)
        text = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        if self._bar:
            self._bar.update(self._task, completed=step, description=text)
        else:
            left = (time.monotonic() - self._began) / max(step - self._start, 1) * max(self._steps - step, 0)
            self.say(f"{step}/{self._steps}  {text}  left {duration(left)}")

    def add(self, step: int, samples: int, values: dict[str, float]) -> None:
        """Takes note of a step of so many samples, for the means of the next record."""
        self._window.add(samples, values)
        if self._bar:
            self._bar.update(self._task, completed=step)

    def flush(self, step: int, values: dict[str, float]) -> None:
        """Records `values`, and the means of what was added since the last time."""
        self.scalars(step, values | self._window.flush())

    @contextmanager
    def interval(self) -> Iterator[None]:
        """Leaves the time inside the context, which is not spent on steps, out of the samples per second."""
        try:
            yield
        finally:
            self._window.restart_clock()

    def state(self) -> dict[str, Any]:
        """Returns what the next record has gathered so far, and makes the disk keep the records."""
        os.fsync(self._file.fileno())
        return self._window.state()

    def say(self, line: str) -> None:
        """Shows one line on stderr."""
        if self._silent:
            return
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


class Window:
    """Means of logged values, and samples per second, since the last record."""

    def __init__(self, state: dict[str, Any] | None = None):
        state = state or {"sums": {}, "count": 0}
        self._sums: dict[str, float] = dict(state["sums"])
        self._count: int = state["count"]
        self._samples, self._seconds, self._since = 0, 0.0, time.monotonic()

    def add(self, samples: int, values: dict[str, float]) -> None:
        now = time.monotonic()
        self._seconds += now - self._since
        self._since = now
        self._samples += samples
        self._count += 1
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def restart_clock(self) -> None:
        self._since = time.monotonic()

    def flush(self) -> dict[str, float]:
        means = {name: value / self._count for name, value in self._sums.items()}
        means["samples/s"] = self._samples / max(self._seconds, 1e-9)
        self._sums, self._count, self._samples, self._seconds = {}, 0, 0, 0.0
        return means

    def state(self) -> dict[str, Any]:
        """Returns sums and their count; the time is not kept."""
        return {"sums": dict(self._sums), "count": self._count}


def _tensorboard(run: Path, start: int) -> SummaryWriter | None:
    """Returns a TensorBoard writer, or None if the package is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(run / "tensorboard"), purge_step=start or None)


def _wandb(project: str, run: Path) -> Any:
    """Returns a run of Weights & Biases, which goes on where the folder's run left off."""
    try:
        package = importlib.import_module("wandb")
    except ImportError as error:
        raise SfumatoError(
            f"wandb = {project!r} in [loop] needs the package wandb; install it (pip install wandb), or leave it out"
        ) from error
    number = hashlib.sha256(str(run.resolve()).encode()).hexdigest()[:16]
    return package.init(project=project, name=run.resolve().name, id=number, resume="allow", dir=str(run))
