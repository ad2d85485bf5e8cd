"""LoRA and its kin: a file's tensors as differences of a model's weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from sfumato.adapters.components import by_layer, differences, fits
from sfumato.adapters.deltas import Delta
from sfumato.adapters.file import AdapterFile
from sfumato.adapters.layer_names import Layer, layer_names
from sfumato.adapters.made_for import made_for
from sfumato.adapters.peft import alphas, neumann_terms
from sfumato.errors import OptionError, SfumatoError
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
    """What a LoRA's file changes about a model.

    `strange` are the names of its layers that the model does not have, or has in another shape; `layers` counts all.
    """

    file: AdapterFile
    changes: tuple[Change, ...]
    strange: tuple[str, ...]
    layers: int

    def check(self, spec: Spec, partial: bool = False) -> None:
        """Raises SfumatoError unless every layer of the file fits the model, or with `partial` some."""
        if not self.strange or (partial and self.changes):
            return
        with self.file.checkpoint() as checkpoint:
            family = made_for(checkpoint.shapes, self.file.metadata)
        title = f"{self.file.path} does not fit"
        if family is not None and family.title != spec.title:
            raise SfumatoError(f"{title}: it was made for {family.title}, this is {spec.title}; give another")
        shown = ", ".join(self.strange[:SHOWN]) + (" ..." if len(self.strange) > SHOWN else "")
        if not self.changes:
            raise SfumatoError(f"{title}: none of its {self.layers} layers is in {spec.title} ({shown}); give another")
        lost = f"{len(self.strange)} of its {self.layers} layers are not in {spec.title} ({shown})"
        raise OptionError(f"{title}: {lost}; give another, or `lora_partial` to use what fits")


@lru_cache(maxsize=8)
def read(file: AdapterFile, spec: Spec) -> Differences:
    """The differences that a file holds for a model. Raises SfumatoError for a file that cannot be read."""
    known = layer_names(spec)
    changes: list[Change] = []
    with file.checkpoint() as checkpoint:
        layers, others = by_layer(checkpoint.tensors)
        strange = [name for name in others if not name.startswith(BUNDLED)]
        alpha, terms = alphas(file.path, file.metadata), neumann_terms(file.path)
        for name, parts in layers.items():
            shapes = {component: checkpoint.tensors[tensor].shape for component, tensor in parts.items()}
            found = known.find(name, "weight")
            if found is not None and not fits(shapes, found.shape):
                strange.append(name)
                continue
            stated = alpha(name, shapes["down"][0]) if "down" in shapes else None
            for tensor, delta in differences(name, parts, checkpoint.read, stated, terms).items():
                layer = known.find(name, tensor)
                if layer is None and tensor == "bias" and "ia3" in parts:
                    continue  # a layer without bias, of which the file does not know
                if layer is None:
                    strange.append(name)
                else:
                    changes.append(Change(layer, delta))
    return Differences(file, tuple(changes), tuple(dict.fromkeys(strange)), len(layers) + len(others))


def changes(file: AdapterFile, spec: Spec) -> tuple[Change, ...]:
    """What a file changes about a model's weights; nothing for an adapter of another kind. Raises as `read`."""
    return read(file, spec).changes if file.kind == "lora" else ()
