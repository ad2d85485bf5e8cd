"""The training loop that all methods share; a `Task` supplies batches, the loss, validation and the export.

Step k draws its batch and its noise from (seed, k) alone (`sfumato.seeding`). So no random state has to be saved, and
on the same machine with the same threads an interrupted run ends with the same weights as a whole one, bit for bit.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import torch

from sfumato.errors import SfumatoError, shortened
from sfumato.files import atomic_write, check_writable, hidden_folder, sync_folder, sync_tree, writing
from sfumato.train import checkpoint, checkpoint_shards
from sfumato.train.config import LoopConfig
from sfumato.train.learner import Learner, NotFinite
from sfumato.train.origin import origin, save_sheet
from sfumato.train.page import write_page
from sfumato.train.processes import joined
from sfumato.train.report import Report
from sfumato.train.task import Batch, DescribesData, Task, batch_ids

FAILURE = "failure.json"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended: steps done in all, the reason ("done", "time" or "signal"), and the last figures."""

    step: int
    reason: str
    metrics: dict[str, float]


def train(
    task: Task,
    cfg: LoopConfig,
    run: Path,
    *,
    record: Any,
    device: torch.device,
    resume: bool = True,
    max_minutes: float | None = None,
) -> Outcome:
    """Trains `task` into the folder `run` until `cfg.steps`, the time limit, SIGINT or SIGTERM.

    `record` is the whole recipe, a dataclass, and is kept in every checkpoint. However the run ends, it leaves a
    checkpoint and an export, and after anything but a signal also figures, a sheet and a page, report.html. Raises
    SfumatoError if a loss or weight is no longer finite (the networks are those of the last checkpoint then), if the
    disk is full or the folder cannot be written (its last checkpoint stays), and if its checkpoint belongs to other
    networks.
    """
    with joined(device) as processes:
        if processes.main:
            check_writable(run)
            run.mkdir(parents=True, exist_ok=True)
            (run / FAILURE).unlink(missing_ok=True)
        processes.wait()
        found = checkpoint.find(run)
        if found and not resume:
            raise SfumatoError(f"{run} holds a run already ({found.name}); choose another folder, or leave out --fresh")
        with closing(Learner(task, cfg, device, processes)) as learner:
            start: dict[str, Any] = learner.restore(found) if found else {"step": 0}
            processes.wait()
            with (
                _pausing(run),
                Report(run, start["step"], cfg.steps, start.get("report"), not processes.main, cfg.wandb) as report,
                _signals() as signalled,
            ):
                if found:
                    report.say(f"going on from {found}")
                under_way = _Run(learner, run, dataclasses.asdict(record), report)
                return under_way.train(start["step"], signalled, max_minutes)


class _Run:
    """A run under way."""

    def __init__(self, learner: Learner, folder: Path, record: dict[str, Any], report: Report):
        self.learner, self.folder, self.record, self.report = learner, folder, record, report
        self.task, self.cfg, self.processes = learner.task, learner.cfg, learner.processes

    def train(self, start: int, signalled: list[int], max_minutes: float | None) -> Outcome:
        cfg, report = self.cfg, self.report
        metrics: dict[str, float] = {}
        began = saved = time.monotonic()
        step, reason = start, "done"
        ahead = self.learner.device.type == "cuda"
        for step, batch in enumerate(_batches(self.task, start, cfg.steps, ahead), start + 1):
            report.add(step, len(next(iter(batch.values()))), self._step(batch, step))
            if step % cfg.log_every == 0 or step == cfg.steps:
                report.flush(step, {"lr": self.learner.lr})
            if step % cfg.validate_every == 0 and step < cfg.steps:
                metrics = self._validate(step)
            if step % cfg.sample_every == 0 and step < cfg.steps:
                self._sheet(step)
            if step % cfg.compare_every == 0 and not cfg.sharded:
                self.processes.check_equal(self.learner.networks, step)
            now = time.monotonic()
            over = max_minutes is not None and now - began >= max_minutes * 60
            asked, over, due = self.processes.any([bool(signalled), over, now - saved >= cfg.checkpoint_minutes * 60])
            if asked or over:
                reason = "signal" if asked else "time"
                break
            if due:
                self._save(step)
                self._export()
                saved = time.monotonic()
        path = self._save(step)
        if reason != "signal":
            metrics = self._validate(step)
            self._sheet(step)
        self._export()
        ended = "finished" if reason == "done" else "stopped; the same command goes on from there"
        if reason != "signal" and self.processes.main:
            data = self.task.data_summary() if isinstance(self.task, DescribesData) else {}
            write_page(self.folder, self.record, data, f"{step:,} of {cfg.steps:,} steps, {ended}")
        report.say(f"step {step}: {path} written, {ended}")
        return Outcome(step, reason, metrics)

    def _step(self, batch: Batch, step: int) -> dict[str, float]:
        try:
            return self.learner.step(batch, step - 1)
        except NotFinite as error:
            raise self._rolled_back(step, batch_ids(self.task, batch, step - 1), error) from error

    def _rolled_back(self, step: int, ids: list[str | int], error: NotFinite) -> SfumatoError:
        """Takes the networks back to the last checkpoint, and returns the error that says what happened."""
        failure = {"step": step, "reason": str(error), "samples": ids}
        if self.processes.main:
            with atomic_write(self.folder / FAILURE) as file:
                file.write(json.dumps(failure, ensure_ascii=False, indent=1).encode())
        last = checkpoint.find(self.folder)
        if last:
            self.learner.restore(last)
        state = f"the networks are those of {last}" if last else "nothing was saved before"
        samples = f", samples {shortened(ids)}" if ids else ""
        return SfumatoError(
            f"step {step}: {error}{samples}; {state}. See {self.folder / FAILURE}; lower lr or clip, or leave these "
            "samples out, and give the command again"
        )

    def _save(self, step: int) -> Path:
        if not self.learner.finite():
            raise self._rolled_back(step, [], NotFinite("a weight is not finite"))
        if not self.cfg.sharded:
            self.processes.check_equal(self.learner.networks, step)
        path = self.folder / "checkpoints"
        if self._takes_part:
            reported = self.report.state() if self.processes.main else None
            state = self.learner.state() | {"config": self.record, "report": reported}
            with self.report.interval():
                save = checkpoint_shards.save if self.cfg.sharded else checkpoint.save
                path = save(self.folder, step, state)
        self.processes.wait()
        return path

    @property
    def _takes_part(self) -> bool:
        """Whether this process has a part in what the main one does: sharded, it has a share of the weights."""
        return self.processes.main or self.cfg.sharded

    def _validate(self, step: int) -> dict[str, float]:
        metrics: dict[str, float] = {}
        if self._takes_part:
            with self._averaged():
                if self.processes.main:
                    metrics = {f"val/{name}": value for name, value in self.task.validate().items()}
        self.report.scalars(step, metrics)
        return metrics

    def _sheet(self, step: int) -> None:
        if self._takes_part:
            with self._averaged():
                if self.processes.main:
                    picture, found = self.task.samples(), origin(self.record, step, self.learner.networks)
                    save_sheet(self.folder / "samples" / f"step-{step:08d}.png", picture, found)

    def _export(self) -> None:
        """Exports beside the former export, and takes its place when all of it is on the disk."""
        if self._takes_part:
            with self._averaged():
                if self.processes.main:
                    self._write_export()

    def _write_export(self) -> None:
        place = self.folder / "export"
        with hidden_folder(place) as hidden:
            self.task.export(hidden / "new")
            with writing(place):
                sync_tree(hidden / "new")
                if place.exists():
                    place.rename(hidden / "former")
                (hidden / "new").rename(place)
                sync_folder(self.folder)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Gives the networks their averages, and leaves the time out of the samples per second."""
        with self.report.interval(), self.learner.ema.applied(), self.learner.whole(), torch.no_grad():
            yield


def _batches(task: Task, start: int, stop: int, ahead: bool) -> Iterator[Batch]:
    """Yields batches in order; with `ahead` a thread prepares the next ones while the device computes."""
    if not ahead:
        yield from map(task.batch, range(start, stop))
        return
    with ThreadPoolExecutor(1) as pool:
        pending = [pool.submit(task.batch, step) for step in range(start, min(start + 4, stop))]
        for step in range(start, stop):
            batch = pending.pop(0).result()
            if step + 4 < stop:
                pending.append(pool.submit(task.batch, step + 4))
            yield batch


@contextmanager
def _pausing(run: Path) -> Iterator[None]:
    """Says of a disk that is full, whoever wrote to it, that the run pauses and what it goes on from."""
    try:
        yield
    except (OSError, SfumatoError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(cause, OSError) or cause.errno != errno.ENOSPC:
            raise
        last = checkpoint.find(run)
        stays = f"{last} stays whole" if last else "no checkpoint was written yet"
        raise SfumatoError(
            f"the disk of {run} is full, the run pauses; {stays}: make room, then the same command goes on from there"
        ) from error


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects the signals that ask the run to stop; a second one acts at once, as it would without us."""
    arrived: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, _frame: object) -> None:
        arrived.append(number)
        restore()

    try:
        for number in before:
            signal.signal(number, note)
        yield arrived
    finally:
        restore()
