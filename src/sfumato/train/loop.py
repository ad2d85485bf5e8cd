"""The training loop that all methods share; a `Task` supplies batches, the loss, validation and the export.

Step k draws its batch and its noise from (seed, k) alone (`sfumato.seeding`). So no random state has to be saved, and
on the same machine with the same threads an interrupted run ends with the same weights as a whole one, bit for bit.
"""

from __future__ import annotations

import dataclasses
import math
import signal
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sfumato.errors import SfumatoError
from sfumato.files import atomic_write, check_writable
from sfumato.runtime.device import choose_device
from sfumato.seeding import stream
from sfumato.train import checkpoint
from sfumato.train.config import LoopConfig
from sfumato.train.ema import EMA
from sfumato.train.report import Report

Batch = dict[str, Tensor]


class Task(Protocol):
    """What a run trains.

    `validate`, `samples` and `export` are called while `networks` holds the averaged weights.
    """

    @property
    def networks(self) -> nn.Module:
        """The module whose parameters are trained."""

    def batch(self, step: int) -> Batch:
        """Returns the samples of a step on the CPU, tensors (B, ...) by name.

        It must be a pure function of the config's seed and of `step`, and may be called in a thread.
        """

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the scalar to minimise, and scalars to log. Torch's generators are seeded for the step."""

    def validate(self) -> dict[str, float]:
        """Returns figures on data that training does not see, by name."""

    def samples(self) -> Image.Image:
        """Returns a sheet of pictures to judge the run by."""

    def export(self, folder: Path) -> None:
        """Writes to `folder` what the next stage or a user loads."""


class MethodTask(Task, Protocol):
    """A task that was built from a recipe."""

    @property
    def cfg(self) -> Any:
        """The recipe of the run, a dataclass with a `LoopConfig` named `loop`."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended: steps done in all, the reason ("done", "time" or "signal"), and the last figures."""

    step: int
    reason: str
    metrics: dict[str, float]


def pick_device(name: str) -> torch.device:
    """Returns the device of this name; "auto" takes a GPU if there is one. Raises SfumatoError if there is no such
    device."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return choose_device(name)


def bf16_pays(device: torch.device) -> bool:
    """Returns whether the device multiplies bf16 in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    # The function is younger than the oldest torch that we allow.
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


@contextmanager
def arithmetic(cfg: LoopConfig, device: torch.device) -> Iterator[None]:
    """Opens the context in which forward passes run: the precision, and on the CPU plain attention.

    At the few tokens of our networks, torch's CPU flash attention takes four times as long backwards as plain
    attention.
    """
    bf16 = cfg.precision == "bf16"
    if cfg.precision == "auto":
        bf16 = bf16_pays(device)
    attention = nullcontext() if device.type == "cuda" else sdpa_kernel(SDPBackend.MATH)
    with attention, torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        yield


def learning_rate(cfg: LoopConfig, step: int, steps: int) -> float:
    """Returns the learning rate of step number `step`, from 0, of `steps`."""
    if step < cfg.warmup:
        return cfg.lr * (step + 1) / cfg.warmup
    if cfg.lr_schedule == "constant":
        return cfg.lr
    if cfg.lr_schedule == "cosine":
        share = (step - cfg.warmup) / max(steps - cfg.warmup, 1)
        fall = (1 + math.cos(math.pi * min(share, 1))) / 2
    else:
        fall = min(1.0, max(0.0, (steps - step) / max(cfg.decay * steps, 1)))
    return cfg.lr * (cfg.lr_end + (1 - cfg.lr_end) * fall)


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
    checkpoint and an export, and after anything but a signal also figures and a sheet. Raises SfumatoError if the loss
    is no longer finite, if the folder cannot be written, and if its checkpoint belongs to other networks.
    """
    check_writable(run)
    run.mkdir(parents=True, exist_ok=True)
    networks = task.networks.to(device)
    if cfg.channels_last:
        networks.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # known to torch, not to its types
    optimizer = _adamw(networks, cfg, device)
    ema = EMA(networks, cfg.ema)
    found = checkpoint.find(run)
    start = 0
    if found and not resume:
        raise SfumatoError(f"{run} holds a run already ({found.name}); choose another folder, or leave out --fresh")
    if found:
        start = _restore(found, device, networks, optimizer, ema)

    def state() -> dict[str, Any]:
        return {
            "networks": networks.state_dict(),
            "ema": ema.average,
            "optimizer": optimizer.state_dict(),
            "config": dataclasses.asdict(record),
        }

    metrics: dict[str, float] = {}
    began = saved = time.monotonic()
    reason = "done"
    with Report(run, start, cfg.steps) as report, _signals() as signalled:
        if found:
            report.say(f"going on from {found}")
        window = _Window()
        step = start
        for step, batch in enumerate(_batches(task, start, cfg.steps, ahead=device.type == "cuda"), start + 1):
            metrics_now = _step(task, networks, optimizer, ema, cfg, batch, step - 1, device)
            window.add(len(next(iter(batch.values()))), metrics_now)
            report.advance(step)
            if step % cfg.log_every == 0 or step == cfg.steps:
                report.scalars(step, {"lr": optimizer.param_groups[0]["lr"]} | window.flush())
            if step % cfg.validate_every == 0 and step < cfg.steps:
                metrics = _validate(task, ema, report, step)
                window.restart_clock()
            if step % cfg.sample_every == 0 and step < cfg.steps:
                _sheet(task, ema, run, step)
                window.restart_clock()
            now = time.monotonic()
            if signalled or (max_minutes is not None and now - began >= max_minutes * 60):
                reason = "signal" if signalled else "time"
                break
            if now - saved >= cfg.checkpoint_minutes * 60:
                checkpoint.save(run, step, state())
                _export(task, ema, run)
                saved = time.monotonic()
                window.restart_clock()
        path = checkpoint.save(run, step, state())
        if reason != "signal":
            metrics = _validate(task, ema, report, step)
            _sheet(task, ema, run, step)
        _export(task, ema, run)
        ended = "finished" if reason == "done" else "stopped; the same command goes on from there"
        report.say(f"step {step}: {path} written, {ended}")
    return Outcome(step, reason, metrics)


class _Window:
    """Means of logged values, and samples per second, since the last line of the log."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._clear()

    def _clear(self) -> None:
        self._sums: dict[str, float] = {}
        self._count = self._samples = 0
        self._seconds = 0.0

    def add(self, samples: int, values: dict[str, float]) -> None:
        now = time.monotonic()
        self._seconds += now - self._since
        self._since = now
        self._samples += samples
        self._count += 1
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def restart_clock(self) -> None:
        """Leaves out the time since the last step, which was not spent on training."""
        self._since = time.monotonic()

    def flush(self) -> dict[str, float]:
        means = {name: value / self._count for name, value in self._sums.items()}
        means["samples/s"] = self._samples / self._seconds
        self._clear()
        return means


def _step(
    task: Task,
    networks: nn.Module,
    optimizer: torch.optim.Optimizer,
    ema: EMA,
    cfg: LoopConfig,
    batch: Batch,
    step: int,
    device: torch.device,
) -> dict[str, float]:
    torch.manual_seed(int(stream(cfg.seed, "torch", step).integers(2**63)))
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(cfg, step, cfg.steps)
    moved = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
    with arithmetic(cfg, device):
        loss, extras = task.loss(moved)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(networks.parameters(), cfg.clip)
    values = {"loss": loss.item(), "grad_norm": norm.item()} | {name: value.item() for name, value in extras.items()}
    if not math.isfinite(values["loss"]) or not math.isfinite(values["grad_norm"]):
        raise SfumatoError(
            f"step {step + 1}: loss {values['loss']}, gradient norm {values['grad_norm']}; "
            "lower lr or clip and start again from the last checkpoint"
        )
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    ema.update(step)
    return values


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


def _adamw(networks: nn.Module, cfg: LoopConfig, device: torch.device) -> torch.optim.AdamW:
    """Returns the optimizer; weight decay applies to matrices and kernels only."""
    parameters = [p for p in networks.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": cfg.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=cfg.lr, betas=(cfg.beta1, cfg.beta2), fused=device.type in ("cuda", "cpu"))


def _restore(path: Path, device: torch.device, networks: nn.Module, optimizer: torch.optim.Optimizer, ema: EMA) -> int:
    state = checkpoint.load(path, device)
    own, theirs = networks.state_dict(), state["networks"]
    differing = sorted(
        name for name in own.keys() | theirs.keys()
        if name not in own or name not in theirs or own[name].shape != theirs[name].shape
    )  # fmt: skip
    if differing:
        raise SfumatoError(
            f"{path} belongs to other networks ({len(differing)} weights differ, first {differing[0]}); "
            "choose another run folder or the config it was started with"
        )
    networks.load_state_dict(theirs)
    optimizer.load_state_dict(state["optimizer"])
    ema.load(state["ema"])
    return state["step"]


def _validate(task: Task, ema: EMA, report: Report, step: int) -> dict[str, float]:
    with ema.applied(), torch.no_grad():
        metrics = {f"val/{name}": value for name, value in task.validate().items()}
    report.scalars(step, metrics)
    return metrics


def _sheet(task: Task, ema: EMA, run: Path, step: int) -> None:
    with ema.applied(), torch.no_grad():
        picture = task.samples()
    with atomic_write(run / "samples" / f"step-{step:08d}.png") as file:
        picture.save(file, "PNG")


def _export(task: Task, ema: EMA, run: Path) -> None:
    with ema.applied(), torch.no_grad():
        task.export(run / "export")


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
