"""Gradient checkpointing: inner values of blocks are computed twice instead of being kept in memory."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from sfumato.train.precision import plain_attention


def recompute_blocks(network: nn.Module, device: torch.device) -> int:
    """Makes the blocks of a network (see `blocks_of`) forget their inner values, and returns how many there are.

    A block's output and its gradient stay the same, bit for bit; it keeps its inputs only, and
    takes about a third more time (Chen et al. 2016). The network's code and the names of its weights do not change.
    """
    blocks = blocks_of(network)
    for block in blocks:
        block.forward = functools.partial(_recomputed, block.forward, device)
    return len(blocks)


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """Returns the members of `ModuleList`s whose members all have layers inside and that have no such list below.

    Such as a residual block, or a transformer's layer.
    """
    return [block for path, block in network.named_modules() if _is_block(network, path)]


def _recomputed(forward: Callable[..., Any], device: torch.device, *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)

    def contexts() -> tuple[AbstractContextManager, AbstractContextManager]:
        return plain_attention(device), plain_attention(device)  # one kind, or inner values would differ

    return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)


def _is_block(network: nn.Module, path: str) -> bool:
    above, _, name = path.rpartition(".")
    if not path or not name.isdigit():
        return False
    here = network.get_submodule(path)
    return _is_list_of_blocks(network.get_submodule(above)) and not any(map(_is_list_of_blocks, here.modules()))


def _is_list_of_blocks(module: nn.Module) -> bool:
    if not isinstance(module, nn.ModuleList) or not len(module):
        return False
    return all(any(True for _ in member.children()) for member in module)
