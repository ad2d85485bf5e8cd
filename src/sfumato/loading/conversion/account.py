"""What becomes of every tensor of a conversion, on both sides, by name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from sfumato.checkpoint.checkpoint import Checkpoint, Stored
from sfumato.checkpoint.formats.fp8 import EIGHTS
from sfumato.checkpoint.keymap import IDENTITY, Rule
from sfumato.checkpoint.open import REMAINDER
from sfumato.errors import SfumatoError
from sfumato.families import Family
from sfumato.families.base import Layout
from sfumato.loading.conversion.quantised import quantised
from sfumato.loading.load import Plan, checked
from sfumato.loading.save import Entry
from sfumato.spec import Spec


@dataclass(frozen=True)
class Row:
    """A line of the proof: which tensors of the input (`source`) became which of the output (`name`), or why not.

    `shape`, `dtype` and `sha256` are those of the tensor as it was read back from the output. `error` is the largest
    rounding error, as a share of the tensor's largest value; 0 where nothing was rounded.
    """

    source: tuple[str, ...]
    name: str | None
    note: str
    shape: tuple[int, ...] = ()
    dtype: str = ""
    sha256: str = ""
    error: float = 0.0


@dataclass(frozen=True)
class Source:
    """The input: the model it holds and where each of our parameters comes from."""

    checkpoint: Checkpoint
    family: Family
    layout: str
    spec: Spec
    plan: Plan
    ema: bool
    dtype: torch.dtype | None

    @cached_property
    def params(self) -> dict[tuple[str, str], tuple[Rule, int]]:
        """The rule that gives a parameter of ours, and the parameter's place in it."""
        return {
            (part, name): (rule, i)
            for part, rules in self.plan.keymap.parts.items()
            for rule in rules
            for i, name in enumerate(rule.ours)
        }

    def names(self, rule: Rule) -> list[str]:
        return [self.plan.match.names[name] for name in rule.theirs]

    def stored(self, rule: Rule) -> list[Stored]:
        return [self.checkpoint.tensors[name] for name in self.names(rule)]

    def type_of(self, rule: Rule) -> torch.dtype:
        """The type of what the rule gives. Raises SfumatoError where the input mixes types within it."""
        kinds = {stored.dtype for stored in self.stored(rule)}
        if self.dtype is None and len(kinds) > 1:
            names = ", ".join(self.names(rule))
            raise SfumatoError(f"{self.checkpoint.path} stores {names} in different types; give one with --dtype")
        return self.dtype or kinds.pop()

    def ours(self, rule: Rule) -> list[Tensor]:
        """The parameters that a rule gives, in the output's type."""
        names, dtype = self.names(rule), self.type_of(rule)
        tensors = [cast(checked(one, name), dtype, name) for one, name in zip(self.stored(rule), names, strict=True)]
        return list(rule.transform.to_ours(tensors))


class Account:
    """What becomes of every tensor: `entries` are to be written, `rows` tell of each and of what is left out."""

    def __init__(self, source: Source, layout: str, spec: Spec):
        self.source, self.layout, self.spec = source, layout, spec
        self.target: Layout = source.family.layouts[layout]
        built = source.plan.networks if spec == source.spec else source.family.build(spec)
        self.networks = {part: network for part, network in built.items() if part in source.plan.networks}
        self.keymap = source.family.keymap(spec, layout, self.networks)
        self.entries: dict[str, Entry] = {}
        self.quantised: dict[str, Entry] | None = None
        self.metadata = dict(source.checkpoint.metadata)
        self.remainder: dict[str, Entry] = {}
        self.rows: list[Row] = []

    @property
    def written(self) -> dict[str, Entry]:
        """What is written of `entries`: they themselves, or what a quantiser makes of them."""
        return self.entries if self.quantised is None else self.quantised

    @property
    def nbytes(self) -> int:
        return sum(entry.nbytes for entry in (*self.written.values(), *self.remainder.values()))

    def quantise(self, kind: str) -> None:
        """Write the large weights of the network that draws in fewer bits."""
        self.quantised, told = quantised(self.entries, kind, self.target.prefixes[self.source.family.denoiser])
        self.metadata |= told

    def fill(self) -> None:
        """Give every tensor of both sides its row. Raises ValueError where a family's layouts do not fit together."""
        params = self.source.params
        used: set[Rule] = set()
        for part, rules in self.keymap.parts.items():
            shapes = self.networks[part].state_dict()
            for rule in rules:
                found = [params[part, name] for name in rule.ours if (part, name) in params]
                if len(found) not in (0, len(rule.ours)):
                    raise ValueError(f"the other layout has only some of {rule.ours}")
                metas = rule.transform.to_theirs([shapes[name] for name in rule.ours])
                if found:
                    used |= {origin for origin, _ in found}
                    self._convert(rule, found, [tuple(meta.shape) for meta in metas])
                else:
                    self._fill(rule, [tuple(meta.shape) for meta in metas])
        for origin in dict.fromkeys(origin for origin, _ in params.values()):
            if origin not in used:
                for name in self.source.names(origin):
                    self._keep(name, "never read")
        for name in self.source.plan.match.ignored:
            self._account_for_unread(name)
        carried = self.source.checkpoint.remainder if self.layout == self.source.layout else {}
        for name, stored in carried.items():
            self.remainder[name] = _raw(stored)
            self.rows.append(Row((f"{REMAINDER}/{name}",), f"{REMAINDER}/{name}", "kept"))
        if self.layout != self.source.layout:
            self._add_what_nothing_reads()

    def _convert(self, rule: Rule, found: list[tuple[Rule, int]], shapes: list[tuple[int, ...]]) -> None:
        origins = list(dict.fromkeys(origin for origin, _ in found))
        kinds = {self.source.type_of(origin) for origin in origins}
        names = [name for origin in origins for name in self.source.names(origin)]
        if len(kinds) > 1:
            raise SfumatoError(
                f"{self.source.checkpoint.path} stores {', '.join(names)} in different types; give one with --dtype"
            )
        changes = [t.name for t in (*(origin.transform for origin in origins), rule.transform) if t is not IDENTITY]

        def make(i: int) -> Tensor:
            made = {origin: self.source.ours(origin) for origin in origins}
            return rule.transform.to_theirs([made[origin][k] for origin, k in found])[i]

        dtype = kinds.pop()
        for i, (name, shape) in enumerate(zip(rule.theirs, shapes, strict=True)):
            self._add(name, Entry(shape, dtype, partial(make, i)), tuple(names), ", ".join(dict.fromkeys(changes)))

    def _fill(self, rule: Rule, shapes: list[tuple[int, ...]]) -> None:
        """Parameters that only this layout has and nothing reads: as they were, if the input tells, else zeros."""
        kept = self.source.checkpoint.remainder
        for name, shape in zip(rule.theirs, shapes, strict=True):
            if name in kept and kept[name].shape == shape:
                stored = kept[name]
                dtype = self.source.dtype or stored.dtype
                make = partial(_read_as, stored, dtype, name)
                self._add(name, Entry(shape, dtype, make), (f"{REMAINDER}/{name}",), "never read")
            else:
                dtype = self.source.dtype or next(iter(self.entries.values())).dtype
                self._add(name, Entry(shape, dtype, partial(torch.zeros, shape, dtype=dtype)), (), "made: never read")

    def _add(self, name: str, entry: Entry, source: tuple[str, ...], note: str) -> None:
        self.entries[name] = entry
        self.rows.append(Row(source, name, note))

    def _keep(self, name: str, why: str) -> None:
        """A tensor without a counterpart goes beside a folder, where the way back finds it."""
        stored = self.source.checkpoint.tensors[name]
        if self.layout == self.source.layout:
            self._add(name, _raw(stored), (name,), "kept")
        elif self.source.checkpoint.container == "folder":
            self.rows.append(Row((name,), None, f"left out: {why}"))
        else:
            self.remainder[name] = _raw(stored)
            self.rows.append(Row((name,), f"{REMAINDER}/{name}", f"kept: {why}"))

    def _account_for_unread(self, name: str) -> None:
        """What the input holds beside the model's parameters."""
        source = self.source.family.layouts[self.source.layout]
        stored = self.source.checkpoint.tensors[name]
        made = source.buffers(self.source.spec).get(name)
        prefix = source.prefixes[self.source.family.denoiser]
        known = self.source.plan.keymap.canonical(name)
        same_name = self.source.checkpoint.tensors.get(self.source.plan.match.names.get(known, ""))
        if source.ema is not None and name.startswith(source.ema(prefix).split(".")[0] + "."):
            self.rows.append(Row((name,), None, "left out: an averaged weight, which --ema takes instead"))
        elif self.source.ema and name.startswith(prefix):
            self.rows.append(Row((name,), None, "left out: the averaged weight was taken"))
        elif same_name is not None and _same(same_name.read(), stored):
            self.rows.append(Row((name,), None, f"left out: the same as {known}"))
        elif self.layout == self.source.layout and name.startswith(source.carried):
            self._keep(name, "carried")
        elif "/" in name and not name.startswith(tuple(source.prefixes.values())):
            self.rows.append(Row((name,), None, "left out: no part of the model that sfumato reads"))
        elif self.layout != self.source.layout and made is not None and _same(made, stored):
            self.rows.append(Row((name,), None, "left out: follows from the noise schedule"))
        else:
            self._keep(name, "not read by this layout")

    def _add_what_nothing_reads(self) -> None:
        """What the other layout holds beside the parameters."""
        kept = self.source.checkpoint.remainder
        for name, stored in kept.items():
            if name not in self.entries:
                self._add(name, _raw(stored), (f"{REMAINDER}/{name}",), "kept")
        for name, tensor in self.target.buffers(self.spec).items():
            if name not in self.entries:
                entry = Entry(tuple(tensor.shape), tensor.dtype, partial(_itself, tensor))
                self._add(name, entry, (), "made: follows from the noise schedule")


def _raw(stored: Stored) -> Entry:
    return Entry(stored.shape, stored.dtype, stored.read)


def _read_as(stored: Stored, dtype: torch.dtype, name: str) -> Tensor:
    return cast(checked(stored, name), dtype, name)


def _itself(tensor: Tensor) -> Tensor:
    return tensor


def cast(tensor: Tensor, dtype: torch.dtype, name: str) -> Tensor:
    """The tensor in another type. Raises SfumatoError, with its name, where a value does not fit."""
    result = tensor.to(dtype)
    narrower = dtype not in EIGHTS and torch.finfo(dtype).max < torch.finfo(tensor.dtype).max
    if narrower and result.numel() and not torch.stack(torch.aminmax(result)).isfinite().all():
        largest = tensor.abs().max().item()
        raise SfumatoError(f"{name} holds {largest:.4g}, which does not fit in {dtype}; convert to another --dtype")
    return result


def bytes_of(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def identical(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(bytes_of(one), bytes_of(other))


def _same(tensor: Tensor, stored: Stored) -> bool:
    return tensor.dtype == stored.dtype and tensor.shape == stored.shape and identical(tensor, stored.read())
