"""Processes that each keep a share of the weights, of their averages and of the optimizer's state: PyTorch's FSDP2.

A block's weights are gathered when it computes, and dropped again (Rajbhandari et al. 2020, stage 3). For drawing and
for files the main process gathers all of them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from sfumato.errors import SfumatoError
from sfumato.train.config import LoopConfig
from sfumato.train.processes import Processes
from sfumato.train.recompute import blocks_of
from sfumato.train.task import Task, UsesFrozen

OPTIMIZERS = ("adamw", "lion")  # which look at each number by itself
HOOKS = (
    "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_forward_hooks", "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called", "_state_dict_pre_hooks", "_state_dict_hooks",
)  # fmt: skip


class Sharding:
    """The networks of a task, shared out among processes.

    Raises SfumatoError for a method whose networks are not those that its loss calls, and for settings that need whole
    weights.
    """

    def __init__(self, task: Task, cfg: LoopConfig, device: torch.device, processes: Processes):
        if processes.count == 1:
            raise SfumatoError("sharded is for several processes; start them by torchrun, or leave it out")
        if not isinstance(task, UsesFrozen) or all(one is not task.forwarded for one in task.networks.modules()):
            raise SfumatoError(
                "sharded is for methods by which all weights of what draws learn, such as full; leave it out"
            )
        if cfg.optimizer not in OPTIMIZERS:
            raise SfumatoError(f"sharded works with {' or '.join(OPTIMIZERS)}, and not with {cfg.optimizer}")
        if cfg.precision == "fp16":
            raise SfumatoError('sharded works with bf16 or fp32; change precision = "fp16"')
        self.networks, self._keeps = task.networks, processes.main
        for value in self.networks.state_dict().values():
            distributed.broadcast(value, 0)
        self.mesh: DeviceMesh = init_device_mesh(device.type, (processes.count,))
        called = task.forwarded
        for block in blocks_of(called):
            fully_shard(block, mesh=self.mesh)
        fully_shard(called, mesh=self.mesh)
        for other in _outermost(self.networks, called):
            fully_shard(other, mesh=self.mesh)

    def hold_back(self, yes: bool) -> None:
        """Says whether gradients gather in each process, as others of the same step follow."""
        for module in self.networks.modules():
            if isinstance(module, FSDPModule):
                module.set_requires_gradient_sync(not yes, recurse=False)

    def shared(self, whole: Tensor) -> Tensor:
        """Returns this process's share of a tensor that all processes have."""
        return distribute_tensor(whole, self.mesh, [Shard(0)]) if whole.dim() else whole

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Returns a share of a tensor, to be filled."""
        return torch.distributed.tensor.empty(shape, dtype=dtype, device_mesh=self.mesh, placements=[Shard(0)])

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Gives the networks of the main process all weights inside the context; all processes must enter it."""
        shares: list[tuple[nn.Module, str, Any]] = [
            (module, name, value)
            for module in self.networks.modules()
            for name, value in module._parameters.items()
            if isinstance(value, DTensor)
        ]
        gathered = [value.full_tensor() for _, _, value in shares]
        if not self._keeps:
            yield
            return
        hooks: list[tuple[nn.Module, str, Any]] = []
        try:
            for module in self.networks.modules():
                if isinstance(module, FSDPModule):
                    for name in HOOKS:
                        hooks.append((module, name, getattr(module, name)))
                        setattr(module, name, OrderedDict())
            for (module, name, _), value in zip(shares, gathered, strict=True):
                module._parameters[name] = nn.Parameter(value.detach(), requires_grad=False)
            yield
        finally:
            for module, name, value in shares:
                module._parameters[name] = value
            for module, name, kept in hooks:
                setattr(module, name, kept)


def local(value: Tensor) -> Tensor:
    """Returns what of a tensor lies in this process."""
    return value.to_local() if isinstance(value, DTensor) else value


def whole_number(value: Tensor) -> float:
    """Returns the number that a tensor holds, which may be a sum over processes."""
    return (value.full_tensor() if isinstance(value, DTensor) else value).item()


def _outermost(networks: nn.Module, called: nn.Module) -> list[nn.Module]:
    """The outermost networks with weights beside the one that is called, and those in collections of them."""
    found = []
    for child in networks.children():
        if child is called or (not isinstance(child, nn.ModuleDict | nn.ModuleList) and not _has_weights(child)):
            continue
        inner = isinstance(child, nn.ModuleDict | nn.ModuleList) or any(one is called for one in child.modules())
        found += _outermost(child, called) if inner else [child]
    return found if networks is not called else []


def _has_weights(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())
