"""Networks that hold the factors of adapters beside their own weights, and add each to the rows that ask for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from sfumato.adapters import lora
from sfumato.adapters.deltas import LowRank
from sfumato.adapters.lora import Change
from sfumato.adapters.use import Use
from sfumato.errors import SfumatoError
from sfumato.nets.adapted import Adapted, Strengths, listens, low_rank, with_weights
from sfumato.nets.shared_weights import with_shared_weights
from sfumato.spec import Spec

Network = TypeVar("Network", bound=nn.Module)


@torch.no_grad()
def unmerged(network: Network, base: nn.Module, part: str, uses: Sequence[Use], spec: Spec) -> Network:
    """The network of a part with a slot for each use: `Cond.adapters` (B, S) says how much of it each row gets.

    1 is the use at its own strength. `base` has the weights that were loaded, of which the differences are, also where
    other adapters are merged into those of `network`. No weight is copied. Raises SfumatoError for a difference of what
    is no layer.
    """
    strengths = Strengths()
    added: dict[str, dict[int, nn.Module]] = defaultdict(dict)
    for slot, use in enumerate(uses):
        for change in lora.changes(use.file, spec):
            if change.layer.part == part and (strength := use.strength(change.layer)) != 0:
                for path, module in _modules(base, change, strength):
                    before = added[path].get(slot)
                    added[path][slot] = module if before is None else Together(before, module)
    result = with_shared_weights(network)
    for path, differences in added.items():
        above, _, name = path.rpartition(".")
        layer = result.get_submodule(path)
        setattr(result.get_submodule(above), name, Adapted(layer, dict(sorted(differences.items())), strengths))
    listens(result, strengths)
    return result


class Together(nn.Module):
    """The sum of what two modules make of the same."""

    def __init__(self, one: nn.Module, other: nn.Module):
        super().__init__()
        self.one, self.other = one, other

    def forward(self, x: Tensor) -> Tensor:
        return self.one(x) + self.other(x)


def _modules(base: nn.Module, change: Change, strength: float) -> Iterator[tuple[str, nn.Module]]:
    """The modules that add a change to the layers that it is of, by the layers' names."""
    rule, delta = change.layer.rule, change.delta
    paths = [name.rpartition(".")[::2] for name in rule.ours]
    layers = [base.get_submodule(path) for path, _ in paths]
    if any(True for layer in layers for _ in layer.children()):
        raise SfumatoError(f"the difference of {rule.ours[0]} cannot be added at run time; use one adapter at a time")
    weights = [layer.get_parameter(leaf) for layer, (_, leaf) in zip(layers, paths, strict=True)]
    if isinstance(delta, LowRank):
        up = delta.up.to(weights[0].device).float().flatten(1) * (delta.scale * strength)
        down, mid = (None if one is None else one.to(weights[0]) for one in (delta.down, delta.mid))
        assert down is not None
        for (path, _), layer, rows in zip(paths, layers, rule.transform.to_ours([up]), strict=True):
            yield path, low_rank(layer, rows.to(weights[0].dtype), down, mid)
        return
    (joined,) = rule.transform.to_theirs([weight.float() for weight in weights])
    parts = rule.transform.to_ours([delta.delta(joined, strength)])
    for (path, leaf), layer, part in zip(paths, layers, parts, strict=True):
        yield path, with_weights(layer, {leaf: part})
