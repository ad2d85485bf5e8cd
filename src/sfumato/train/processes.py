"""Several processes that train one run together, as `torchrun` starts them; mostly there is one.

Each of them learns from its own share of every batch, and all of them step by the mean of their gradients. So their
weights stay equal, and two processes do what one does with the same batch. Only the main one writes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from sfumato.errors import SfumatoError
from sfumato.train.task import Batch, Task

PATIENCE = timedelta(hours=6)  # that processes wait for the main one, which validates and writes
Figures = tuple[Tensor, dict[str, Tensor]]


@dataclass(frozen=True)
class Processes:
    """This process, number `rank` from 0, among `count`."""

    rank: int = 0
    count: int = 1

    @property
    def main(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def mean(self, values: Sequence[float]) -> list[float]:
        """Returns the means of values over all processes."""
        return [value / self.count for value in self._reduced(values, distributed.ReduceOp.SUM)]

    def any(self, flags: Sequence[bool]) -> list[bool]:
        """Returns for each flag whether it is set in one of the processes."""
        return [value > 0 for value in self._reduced([float(flag) for flag in flags], distributed.ReduceOp.MAX)]

    def wait(self) -> None:
        """Returns when all processes have come so far."""
        if self.count > 1:
            distributed.barrier()

    def check_equal(self, networks: nn.Module, step: int) -> None:
        """Raises SfumatoError, in all processes, unless the networks have the same weights in all, bit for bit."""
        if self.count == 1:
            return
        found: list[object] = [None] * self.count
        distributed.all_gather_object(found, sha256_of(networks))
        other = [rank for rank, digest in enumerate(found) if digest != found[0]]
        if other:
            raise SfumatoError(
                f"step {step}: the weights of process {other[0]} are no longer those of process 0, so the run stops "
                "before it saves them; look for a broken device, and continue from the last checkpoint"
            )

    def _reduced(self, values: Sequence[float], how: distributed.ReduceOp.RedOpType) -> list[float]:
        if self.count == 1:
            return list(values)
        device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        held = torch.tensor(values, dtype=torch.float64, device=device)
        distributed.all_reduce(held, how)
        return held.tolist()


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """Joins the processes that `torchrun` started beside this one, if it started any."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Processes(distributed.get_rank(), count)
    finally:
        distributed.destroy_process_group()


class Loss:
    """The loss of a task, whose gradient is the mean over all processes; `alone`: the networks see to that."""

    def __init__(self, task: Task, processes: Processes, alone: bool = False):
        self._task, self._parallel = task, None
        if processes.count > 1 and not alone:
            self._parallel = DistributedDataParallel(
                _AsModule(task), broadcast_buffers=False, find_unused_parameters=True
            )

    def __call__(self, batch: Batch) -> Figures:
        """Returns what `Task.loss` returns."""
        return self._task.loss(batch) if self._parallel is None else self._parallel(batch)

    def close(self) -> None:
        """Lets go of what the processes share: before they part, since torch may wait for ever if it goes after."""
        self._parallel = None

    def held_back(self, yes: bool) -> AbstractContextManager[None]:
        """Opens a context in which gradients gather in each process, if others of the same step follow."""
        return self._parallel.no_sync() if yes and self._parallel is not None else nullcontext()


class _AsModule(nn.Module):
    """A task as torch wants it: its networks below, its loss as the forward pass."""

    def __init__(self, task: Task):
        super().__init__()
        self.networks = task.networks
        self._loss = task.loss

    def forward(self, batch: Batch) -> Figures:
        return self._loss(batch)


def sha256_of(networks: nn.Module) -> str:
    """Returns the SHA-256 of the names and the weights of networks."""
    digest = hashlib.sha256()
    for name, value in networks.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
