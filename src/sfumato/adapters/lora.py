"""LoRA and its kin: a file's tensors as differences of a model's weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from sfumato.adapters.components import by_layer, differences
from sfumato.adapters.deltas import Delta
from sfumato.adapters.file import AdapterFile
from sfumato.adapters.layer_names import Layer, layer_names
from sfumato.errors import OptionError
from sfumato.spec import Spec

SHOWN = 3  # names in a message
BUNDLED = "bundle_emb."  # embeddings that come with a LoRA


@dataclass(frozen=True, eq=False)
class Change:
    """The difference of one tensor of a model."""

    layer: Layer
    delta: Delta


@dataclass(frozen=True, eq=False)
class Differences:
    """What a LoRA's file changes about a model, and the names of those of its layers that the model does not have."""

    file: AdapterFile
    changes: tuple[Change, ...]
    strange: tuple[str, ...]

    def check(self, spec: Spec) -> None:
        """Raises OptionError unless every layer of the file is one of the model's."""
        if not self.strange:
            return
        total = len(self.strange) + len({change.layer.name for change in self.changes})
        shown = ", ".join(self.strange[:SHOWN]) + (" ..." if len(self.strange) > SHOWN else "")
        which = f"{len(self.strange)} of its {total} layers" if self.changes else f"none of its {total} layers"
        verb = "are not in" if self.changes else "is in"
        fits = f"{self.file.path} does not fit: {which} {verb} {spec.title} ({shown})"
        raise OptionError(f"{fits}; give another, or `lora_partial` to use what fits" if self.changes else fits)


@lru_cache(maxsize=8)
def read(file: AdapterFile, spec: Spec) -> Differences:
    """The differences that a file holds for a model. Raises SfumatoError for a file that cannot be read."""
    known = layer_names(spec)
    changes: list[Change] = []
    strange: list[str] = []
    with file.checkpoint() as checkpoint:
        layers, others = by_layer(checkpoint.tensors)
        strange += [name for name in others if not name.startswith(BUNDLED)]
        for name, parts in layers.items():
            for tensor, delta in differences(name, parts, checkpoint.read).items():
                layer = known.find(name, tensor)
                if layer is None:
                    strange.append(name)
                else:
                    changes.append(Change(layer, delta))
    return Differences(file, tuple(changes), tuple(dict.fromkeys(strange)))


def of_part(every: Sequence[Differences], part: str) -> list[tuple[Differences, list[Change]]]:
    """The changes of each file to one part of the model, without files that leave it as it is."""
    found = [(one, [change for change in one.changes if change.layer.part == part]) for one in every]
    return [(one, changes) for one, changes in found if changes]
