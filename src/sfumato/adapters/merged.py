"""Networks whose changed layers hold weights of their own, the differences of adapters added; all else is shared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from sfumato.adapters import hypernetwork, lora
from sfumato.adapters.lora import Change
from sfumato.adapters.use import Use
from sfumato.checkpoint.keymap import Rule
from sfumato.nets.hypernetwork import with_hypernetworks
from sfumato.nets.shared_weights import with_shared_weights
from sfumato.nets.unet import UNet
from sfumato.spec import Spec

Network = TypeVar("Network", bound=nn.Module)


@torch.no_grad()
def merged(network: Network, part: str, uses: Sequence[Use], spec: Spec) -> Network:
    """The network of a part with its adapters added; the same object where they leave it as it is.

    The sum is computed in float32 and kept in the network's own precision.
    """
    changes: dict[Rule, list[tuple[Change, float]]] = defaultdict(list)
    for use in uses:
        for change in lora.changes(use.file, spec):
            if change.layer.part == part and (strength := use.strength(change.layer)) != 0:
                changes[change.layer.rule].append((change, strength))
    if not changes:
        return network
    result = with_shared_weights(network)
    places = _places(result)
    new: dict[str, Tensor] = {}
    for rule, several in changes.items():
        ours = [_now(places, new, name) for name in rule.ours]
        (joined,) = rule.transform.to_theirs([tensor.float() for tensor in ours])
        total = joined.clone(memory_format=torch.contiguous_format)
        for change, strength in several:
            change.delta.add_to(total, joined, strength)
        for name, before, after in zip(rule.ours, ours, rule.transform.to_ours([total]), strict=True):
            new[name] = after.to(before.dtype).contiguous()
    for name, value in new.items():
        module, leaf = places[name]
        if leaf in module._parameters:
            module._parameters[leaf] = nn.Parameter(value, requires_grad=False)
        else:
            module._buffers[leaf] = value
    return result


def copied_bytes(network: nn.Module, part: str, uses: Sequence[Use], spec: Spec) -> int:
    """The size of the weights of their own that `merged` would give a network."""
    changed = (change.layer for use in uses for change in lora.changes(use.file, spec) if use.strength(change.layer))
    places = _places(network)
    names = {name for layer in changed if layer.part == part for name in layer.rule.ours}
    return sum(_now(places, {}, name).nbytes for name in names)


def hyped(network: nn.Module, uses: Sequence[Use]) -> nn.Module:
    """The network with hypernetworks before its attentions; the same object where there are none.

    They are computed in the network's own precision, and in the order of `uses`.
    """
    several = []
    for use in uses:
        if use.file.kind == "hypernetwork" and use.network != 0:
            with use.file.checkpoint() as checkpoint:
                several.append((hypernetwork.read(checkpoint).to(next(network.parameters())), use.network))
    return with_hypernetworks(network, several) if several and isinstance(network, UNet) else network


def _places(network: nn.Module) -> dict[str, tuple[nn.Module, str]]:
    """Where every tensor of a network is kept, by its name."""
    return {
        f"{path}.{leaf}" if path else leaf: (module, leaf)
        for path, module in network.named_modules()
        for leaf in (*module._parameters, *module._buffers)
    }


def _now(places: dict[str, tuple[nn.Module, str]], new: dict[str, Tensor], name: str) -> Tensor:
    if name in new:  # two files name the same weights, one of them joined with others
        return new[name]
    module, leaf = places[name]
    return getattr(module, leaf)
