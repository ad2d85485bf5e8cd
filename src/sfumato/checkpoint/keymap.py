"""The map between our parameter names and those of a checkpoint layout: rules that work in both directions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]
Reshape = Callable[[Sequence[Tensor]], Sequence[Tensor]]


def holds(names: Iterable[str], *prefixes: str) -> bool:
    """Some name begins with one of the prefixes."""
    return any(name.startswith(prefixes) for name in names)


def width(shapes: Shapes, layer: str) -> int:
    """Outputs of a layer, 0 without it. Either of its two tensors will do, so that a file is told which it lacks."""
    return (shapes.get(f"{layer}.weight") or shapes.get(f"{layer}.bias") or (0,))[0]


@dataclass(frozen=True)
class Transform:
    """A named, invertible change of storage. No arithmetic, so that a round trip is bit-identical."""

    name: str
    to_ours: Reshape
    to_theirs: Reshape


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors (n, ...) one below the other. torch.cat would import torch's compiler to do this to mere shapes."""
    result = tensors[0].new_empty(sum(map(len, tensors)), *tensors[0].shape[1:])
    for place, tensor in zip(result.split([len(tensor) for tensor in tensors]), tensors, strict=True):
        place.copy_(tensor)
    return result


def _swap_halves(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [_joined(tensor.chunk(2)[::-1]) for tensor in tensors]


IDENTITY = Transform("identity", lambda t: t, lambda t: t)
# A linear layer (o, i) that they keep as a 1x1 convolution (o, i, 1, 1).
CONV1X1 = Transform("conv1x1", lambda t: [x.flatten(1) for x in t], lambda t: [x[..., None, None] for x in t])
TRANSPOSE = Transform("transpose", lambda t: [x.T.contiguous() for x in t], lambda t: [x.T.contiguous() for x in t])
# Our query, key and value, which they keep stacked in this order.
SPLIT3 = Transform("split3", lambda t: t[0].chunk(3), lambda t: [_joined(t)])
# Scale and shift in the other order.
SWAP_HALVES = Transform("swap_halves", _swap_halves, _swap_halves)


@dataclass(frozen=True)
class Rule:
    """These parameters of ours are those tensors of theirs."""

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    transform: Transform = IDENTITY


def rename(names: Iterable[str], theirs: Callable[[str], str]) -> list[Rule]:
    """Rules for parameters that differ by name only."""
    return [Rule((name,), (theirs(name),)) for name in names]


@dataclass(frozen=True)
class Match:
    """How the names and shapes of a file compare with those a map expects."""

    names: dict[str, str]  # expected name -> name in the file
    missing: list[str]
    left_over: list[str]
    misshapen: list[str]  # "name: (2, 3) in the file, (2, 4) expected"
    ignored: list[str]

    @property
    def complete(self) -> bool:
        return not (self.missing or self.left_over or self.misshapen)


@dataclass(frozen=True)
class KeyMap:
    """The rules of every network of a model, by part name.

    `ignored` are patterns of names that files of this layout may also hold; `aliases` are pairs (pattern, replacement)
    that turn names of older files into those of the rules. All patterns match whole names.
    """

    parts: Mapping[str, tuple[Rule, ...]]
    ignored: tuple[str, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    _theirs: dict[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        owners = [(name, part) for part, rules in self.parts.items() for rule in rules for name in rule.theirs]
        object.__setattr__(self, "_theirs", dict(owners))
        if len(self._theirs) != len(owners):
            raise ValueError("two rules name the same tensor")

    def renamed(self, part: str, change: Callable[[str], str]) -> KeyMap:
        """The same map with other names on their side of one part."""
        rules = tuple(replace(rule, theirs=tuple(map(change, rule.theirs))) for rule in self.parts[part])
        return replace(self, parts={**self.parts, part: rules})

    def canonical(self, name: str) -> str:
        """The name that the rules use for a tensor that an older file names differently."""
        if name not in self._theirs:
            for pattern, replacement in self.aliases:
                if match := re.fullmatch(pattern, name):
                    return match.expand(replacement)
        return name

    def to_ours(self, part: str, read: Callable[[str], Tensor]) -> dict[str, Tensor]:
        """All tensors of one network under our names; `read` gives theirs."""
        result: dict[str, Tensor] = {}
        for rule in self.parts[part]:
            result |= zip(rule.ours, rule.transform.to_ours([read(name) for name in rule.theirs]), strict=True)
        return result

    def to_theirs(self, part: str, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All tensors of one network under their names. Raises ValueError unless the rules name exactly `ours`."""
        covered = [name for rule in self.parts[part] for name in rule.ours]
        if sorted(covered) != sorted(ours):
            raise ValueError(f"the rules of {part} do not name its parameters: {sorted(set(covered) ^ set(ours))[:5]}")
        result: dict[str, Tensor] = {}
        for rule in self.parts[part]:
            result |= zip(rule.theirs, rule.transform.to_theirs([ours[name] for name in rule.ours]), strict=True)
        return result

    def match(self, expected: Shapes, found: Shapes) -> Match:
        """Compare a file's shapes with the expected ones (both on their side)."""
        names: dict[str, str] = {}
        left_over: list[str] = []
        misshapen: list[str] = []
        ignored: list[str] = []
        for name in sorted(found, key=lambda name: name not in expected):  # a tensor's own name before its aliases
            known, shape = self.canonical(name), found[name]
            if known not in expected or known in names:
                ignorable = name not in expected and any(re.fullmatch(pattern, name) for pattern in self.ignored)
                (ignored if ignorable else left_over).append(name)
                continue
            names[known] = name
            if shape != expected[known]:
                misshapen.append(f"{name}: {shape} in the file, {expected[known]} expected")
        return Match(names, [name for name in expected if name not in names], left_over, misshapen, ignored)
