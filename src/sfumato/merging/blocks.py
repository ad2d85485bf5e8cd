"""Weights of their own for blocks of a model: a list of numbers as merge tools write it, or names with numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from sfumato.errors import SfumatoError
from sfumato.families import Family
from sfumato.families.layouts import ldm_unet
from sfumato.spec import Spec

BASE = "BASE"  # all that is in no block of the denoiser: text encoders, autoencoder, the denoiser's ends
GROUPS = ("IN", "M", "OUT", "JOINT")  # in the order in which lists of numbers have them
_GROUP_OF = {"input_blocks": "IN", "middle_block": "M", "output_blocks": "OUT"}
_RANGE = re.compile(r"([A-Z]+)(\d+)-(?:\1)?(\d+)")


class Blocks:
    """The blocks of a model's denoiser, by the names that merge tools give them.

    A U-Net has IN00, IN01 ..., M00, OUT00 ... (of 1.x 25, of XL 19), a transformer JOINT00 ...
    """

    def __init__(self, family: Family, spec: Spec, parameters: Iterable[tuple[str, str]]):
        """`parameters` are (part, name) of all that the model has, under our names."""
        self._denoiser = family.denoiser
        unet = None if spec.transformer is not None else ldm_unet.blocks(spec.unet)
        self._table = {} if unet is None else {ours: _label(theirs) for ours, theirs in unet.items()}
        if unet is None and spec.transformer is not None:
            self._table = {f"transformer_blocks.{i}": f"JOINT{i:02}" for i in range(spec.transformer.depth)}
        self.parameters = tuple(parameters)
        labels = {self.of(part, name) for part, name in self.parameters} - {BASE}
        self.labels = sorted(labels, key=lambda label: (GROUPS.index(label.rstrip("0123456789")), label))

    def of(self, part: str, name: str) -> str:
        """The block of a parameter of ours, `BASE` where it is in none."""
        if part == self._denoiser:
            while name:
                if name in self._table:
                    return self._table[name]
                name = name.rpartition(".")[0]
        return BASE

    def names(self, part: str, name: str) -> tuple[str, ...]:
        """All that a user may call a parameter by."""
        return self.of(part, name), part, f"{part}.{name}"

    def numbered(self, numbers: Sequence[object]) -> list[tuple[str, str]]:
        """Numbers as the weights of the blocks in their order. Raises SfumatoError for too few or too many."""
        labels = [BASE, *self.labels] if len(numbers) == len(self.labels) + 1 else self.labels
        if len(numbers) != len(labels):
            have, shown = len(self.labels), f"{self.labels[0]} to {self.labels[-1]}"
            raise SfumatoError(
                f"there are {len(numbers)} weights of blocks; this model has {have} blocks ({shown}): "
                f"give {have} numbers, or {have + 1} with that of all the rest (BASE) first"
            )
        return [(label, str(number)) for label, number in zip(labels, numbers, strict=True)]

    def expanded(self, name: str) -> list[str]:
        """The patterns that a name stands for: of a range its blocks, of a group all of them; MID is M00."""
        if name == "MID":  # as the lists for LoRAs call it
            return ["M00"]
        if match := _RANGE.fullmatch(name):
            group, first, last = match[1], int(match[2]), int(match[3])
            return [label for i in range(first, last + 1) if (label := f"{group}{i:02}") in self.labels] or [name]
        return [f"{name}[0-9][0-9]"] if name in GROUPS else [name]


def _label(theirs: str) -> str:
    group, _, rest = theirs.partition(".")
    if group not in _GROUP_OF:
        return BASE
    return f"{_GROUP_OF[group]}{0 if group == 'middle_block' else int(rest.partition('.')[0]):02}"


Said = str | Sequence[float] | Mapping[str, float]


@dataclass(frozen=True)
class BlockWeights:
    """What a user says of blocks, as patterns of names. The last that fits a parameter counts."""

    blocks: Blocks
    patterns: tuple[tuple[str, float], ...] = ()

    @classmethod
    def of(cls, said: Said, blocks: Blocks) -> BlockWeights:
        """Read a list of numbers (one for each block, or BASE first), or names with numbers ("IN00-IN05=0.3,OUT=1").

        A name is a block, a range of blocks, a group (IN, M, OUT, JOINT), BASE, a part of the model (text), or a
        pattern with `*` of our parameters' names ("unet.*.attn2.*").
        Raises SfumatoError for another number of numbers, and for a name that fits nothing.
        """
        if isinstance(said, str):
            entries = re.split(r"[,\s]+", said.strip(", \n\t"))
            pairs = [entry.rpartition("=")[::2] for entry in entries] if "=" in said else blocks.numbered(entries)
        elif isinstance(said, Mapping):
            pairs = [(str(name), str(number)) for name, number in said.items()]
        else:
            pairs = blocks.numbered(said)
        names = {known for part, name in blocks.parameters for known in blocks.names(part, name)}
        patterns = []
        for name, number in pairs:
            expanded = blocks.expanded(name.strip())
            if not any(fnmatchcase(known, pattern) for pattern in expanded for known in names):
                listed = f"{', '.join(blocks.labels)}, BASE, a part, or a pattern with *"
                raise SfumatoError(f"the model has no block {name!r}; name one of {listed}")
            patterns += [(pattern, _number(name, number)) for pattern in expanded]
        return cls(blocks, tuple(patterns))

    def weight(self, part: str, name: str) -> float | None:
        """The weight of a parameter of ours, None where nothing is said of it."""
        names = self.blocks.names(part, name)
        found = [value for pattern, value in self.patterns if any(fnmatchcase(one, pattern) for one in names)]
        return found[-1] if found else None


def _number(name: str, text: str) -> float:
    try:
        if math.isfinite(value := float(text)):
            return value
    except ValueError:
        pass
    raise SfumatoError(f"the weight of block {name!r} is {text!r}; give a number")
