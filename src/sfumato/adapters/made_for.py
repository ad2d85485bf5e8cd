"""Which family of models an adapter was made for: by what its file says, else by its layers and their shapes."""

from __future__ import annotations

from collections.abc import Mapping

from sfumato.adapters.components import by_layer, fits
from sfumato.adapters.layer_names import LayerNames, layer_names
from sfumato.checkpoint.keymap import Shapes
from sfumato.families import FAMILIES
from sfumato.spec import Spec

ENOUGH = 0.9  # share of its layers that a family must have, of the right shapes
# What trainers call the families: kohya in `ss_base_model_version`, others in `modelspec.architecture`.
SAID = (
    ("sdxl_base", "sdxl"), ("stable-diffusion-xl-v1-base", "sdxl"), ("stable-diffusion-xl", "sdxl"),
    ("sd_v1", "sd1"), ("stable-diffusion-v1", "sd1"), ("sd_v2", "sd2"), ("stable-diffusion-v2", "sd2"),
)  # fmt: skip


def made_for(shapes: Shapes, metadata: Mapping[str, str]) -> Spec | None:
    """The release that fits these tensors best; None where no family has nearly all of their layers."""
    said = (metadata.get(name, "") for name in ("ss_base_model_version", "modelspec.architecture"))
    named = next((family for text in said for start, family in SAID if text.startswith(start)), None)
    layers, _ = by_layer(shapes)
    held = {name: {component: shapes[tensor] for component, tensor in parts.items()} for name, parts in layers.items()}
    order = sorted(FAMILIES, key=lambda family: family.name != named)  # stable: else as they are listed
    best, most = None, ENOUGH
    for family in order:
        if not _may_fit(held, family.spec):
            continue
        share = fitting(held, layer_names(family.spec))
        if share == 1:
            return family.spec
        if share > most:
            best, most = family.spec, share
    return best


def _may_fit(layers: Mapping[str, Mapping[str, tuple[int, ...]]], spec: Spec) -> bool:
    """Whether enough layers have a side that is a multiple of some width of a family's networks.

    This rules most families out without building their networks, which takes a tenth of a second for each. It looks at
    low-rank layers; the others may fit.
    """
    towers = [tower for tower in (spec.text, spec.text_2) if tower is not None]
    backbone = spec.unet.channels if spec.transformer is None else (spec.transformer.hidden,)
    widths = {*backbone, *(tower.hidden_size for tower in towers)}

    def may(parts: Mapping[str, tuple[int, ...]]) -> bool:
        if "up" not in parts or "down" not in parts:
            return True
        sides = *parts["up"][:1], *parts["down"][1:2]
        return any(side % width == 0 for side in sides for width in widths)

    return sum(map(may, layers.values())) > ENOUGH * len(layers)


def fitting(layers: Mapping[str, Mapping[str, tuple[int, ...]]], known: LayerNames) -> float:
    """The share of layers, given as shapes of their components, that a model has with fitting shapes."""
    found = ((known.find(name, "weight") or known.find(name, "bias"), parts) for name, parts in layers.items())
    return sum(layer is not None and fits(parts, layer.shape) for layer, parts in found) / max(1, len(layers))
