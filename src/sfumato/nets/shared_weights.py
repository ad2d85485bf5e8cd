"""Copies of a network that share its weights and in which some modules are changed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import chain
from typing import TypeVar

from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def with_shared_weights(
    network: Network, exchange: Callable[[nn.Module], nn.Module] = lambda module: module
) -> Network:
    """Modules of their own whose weights are the network's; `exchange` gives what stands for each module within."""
    result = copy.deepcopy(network, {id(one): one for one in chain(network.parameters(), network.buffers())})
    for module in list(result.modules()):
        for name, child in module.named_children():
            setattr(module, name, exchange(child))
    return result
