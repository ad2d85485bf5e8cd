"""What learns: the networks of a task, their optimizer and their averages; one step, and all of it as a checkpoint."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils._pytree import tree_map

from sfumato.errors import SfumatoError
from sfumato.seeding import stream
from sfumato.train import checkpoint
from sfumato.train.config import LoopConfig
from sfumato.train.ema import EMA
from sfumato.train.optimizers import Optimizer
from sfumato.train.precision import arithmetic, compute_dtype
from sfumato.train.processes import Loss, Processes
from sfumato.train.recompute import recompute_blocks
from sfumato.train.sharding import Sharding, local, whole_number
from sfumato.train.shares import share
from sfumato.train.task import Batch, FollowsSteps, Task, UsesFrozen

ALONE = Processes()


class NotFinite(Exception):
    """A loss, a gradient or a weight is infinite or not a number; the message says which."""


class Learner:
    """Everything that the steps of a run change."""

    def __init__(self, task: Task, cfg: LoopConfig, device: torch.device, processes: Processes = ALONE):
        self.task, self.cfg, self.device, self.processes = task, cfg, device, processes
        self.networks = task.networks.to(device)
        if cfg.channels_last:
            self.networks.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch knows it, its types do not
        if cfg.checkpointing:
            _forget_inner_values(task, device)
        self.sharding = Sharding(task, cfg, device, processes) if cfg.sharded else None
        self.optimizer = Optimizer(self.networks, cfg, device)
        self.ema = EMA(self.networks, cfg.ema, cfg.ema_every, cfg.ema_after)
        self._loss = Loss(task, processes, alone=cfg.sharded)
        self.scaler = torch.amp.GradScaler(device.type, enabled=compute_dtype(cfg, device) == torch.float16)

    def close(self) -> None:
        """Lets go of what the processes share, before they part."""
        self._loss.close()

    def step(self, batch: Batch, step: int) -> dict[str, float]:
        """Learns from this process's share of the batch of step number `step`, from 0, and returns figures to log.

        The figures are means over all processes. Raises NotFinite, before any weight is changed, if the loss or the
        gradient is infinite or not a number.
        """
        self.optimizer.set_rates(step)
        values: dict[str, float] = {}
        parts, first = self.cfg.accumulate, self.processes.rank * self.cfg.accumulate
        for part in range(parts):
            if self.sharding is not None:
                self.sharding.hold_back(part + 1 < parts)
            with self._loss.held_back(part + 1 < parts):
                found = self._backward(share(batch, first + part, parts * self.processes.count), step, first + part)
            for name, value in found.items():
                values[name] = values.get(name, 0.0) + value / parts
        values = dict(zip(values, self.processes.mean([*values.values()]), strict=True))
        for optimizer in self.optimizer.each:
            self.scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(self.networks.parameters(), self.cfg.clip or math.inf)
        values["grad_norm"] = whole_number(norm)
        self._check(values)
        for optimizer in self.optimizer.each:
            self.scaler.step(optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.ema.update(step)
        if isinstance(self.task, FollowsSteps):
            self.task.stepped()
        return values

    def _backward(self, batch: Batch, step: int, part: int) -> dict[str, float]:
        """Adds to the gradients what a share of a batch gives, number `part` of all, and returns its figures."""
        purpose = "torch" if part == 0 else f"torch {part}"
        torch.manual_seed(int(stream(self.cfg.seed, purpose, step).integers(2**63)))
        moved = {name: value.to(self.device, non_blocking=True) for name, value in batch.items()}
        with arithmetic(self.cfg, self.device):
            loss, extras = self._loss(moved)
        parts = self.cfg.accumulate
        self.scaler.scale(loss if parts == 1 else loss / parts).backward()
        return {"loss": loss.item()} | {name: value.item() for name, value in extras.items()}

    def _check(self, values: dict[str, float]) -> None:
        """Raises NotFinite unless loss and gradient norm are numbers.

        A scaled loss may make the gradient too large: the scaler skips that step and halves the scale, and the gradient
        norm counts as 0. Only when the scale is down at 1 it is a failure.
        """
        if self.scaler.is_enabled() and math.isfinite(values["loss"]) and self.scaler.get_scale() > 1:
            values["scale"] = self.scaler.get_scale()
            if not math.isfinite(values["grad_norm"]):
                values["grad_norm"] = 0.0
        if not math.isfinite(values["loss"]) or not math.isfinite(values["grad_norm"]):
            raise NotFinite(f"loss {values['loss']}, gradient norm {values['grad_norm']}")

    @property
    def lr(self) -> float:
        """The learning rate of the last step."""
        return self.optimizer.lr

    def finite(self) -> bool:
        """Returns whether all weights and averages are numbers."""
        values = [local(value.detach()) for value in [*self.networks.parameters(), *self.ema.average.values()]]
        norms = torch._foreach_norm([value for value in values if value.is_floating_point()])
        own = bool(torch.stack([norm.float() for norm in norms]).isfinite().all()) if norms else True
        return not self.processes.any([not own])[0]

    def whole(self) -> AbstractContextManager[None]:
        """Opens a context in which the networks of the main process have all their weights."""
        return nullcontext() if self.sharding is None else self.sharding.whole()

    def state(self) -> dict[str, Any]:
        """Returns what a checkpoint holds of it."""
        averages = {"ema": self.ema.average} if self.ema.decay else {}
        return {
            "networks": self.networks.state_dict(),
            **averages,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def restore(self, path: Path) -> dict[str, Any]:
        """Takes over a checkpoint, and returns all that it holds. Raises SfumatoError if it is of other networks."""
        state = checkpoint.load(path, self.device, None if self.sharding is None else self.sharding.empty)
        own, theirs = self.networks.state_dict(), state["networks"]
        differing = _differing(own, theirs)
        if differing:
            raise SfumatoError(
                f"{path} belongs to other networks ({len(differing)} weights differ, first {differing[0]}); "
                "choose another run folder or the config it was started with"
            )
        if self.sharding is not None:
            theirs = {name: self._shared(value, own[name]) for name, value in theirs.items()}
            state |= {part: tree_map(self._shared, state[part]) for part in ("optimizer", "ema")}
        self.networks.load_state_dict(theirs)
        self.optimizer.load_state_dict(state["optimizer"])
        self.ema.load(state["ema"])
        self.scaler.load_state_dict(state.get("scaler", {}))
        self.optimizer.zero_grad()
        return state

    def _shared(self, value: Any, like: Tensor | None = None) -> Any:
        """This process's share of what a checkpoint has as a whole; what is no tensor, or `like` a whole, stays."""
        whole = not isinstance(value, Tensor) or isinstance(value, DTensor)
        if self.sharding is None or whole or (like is not None and not isinstance(like, DTensor)):
            return value
        return self.sharding.shared(value)


def _forget_inner_values(task: Task, device: torch.device) -> None:
    found = recompute_blocks(task.networks, device)
    if isinstance(task, UsesFrozen):
        found += recompute_blocks(task.forwarded, device)
    if not found:
        raise SfumatoError("checkpointing finds no blocks in what this method trains; leave it out of the recipe")


def _differing(own: dict[str, Tensor], theirs: dict[str, Tensor]) -> list[str]:
    return sorted(
        name for name in own.keys() | theirs.keys()
        if name not in own or name not in theirs or own[name].shape != theirs[name].shape
    )  # fmt: skip
