"""Nodes about ControlNets."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from sfumato.server.kinds.graph.run import Run
from sfumato.server.kinds.graph.table import Choice, File, Number, node
from sfumato.server.kinds.graph.values import Conditioning, ControlRef, ControlUse, Images, ModelRef, VaeRef

Strength = Annotated[float, Number(0.0, 10.0, 0.01)]
Share = Annotated[float, Number(0.0, 1.0, 0.001)]
ControlFile = Annotated[str, File(kinds=("controlnet",))]
# ComfyUI's names of the hints of a ControlNet-Union, with ours.
SHOWS = {
    "auto": None, "openpose": "openpose", "depth": "depth", "hed/pidi/scribble/ted": "soft edge",
    "canny/lineart/anime_lineart/mlsd": "edges", "normal": "normal", "segment": "segmentation", "tile": "tile",
    "repaint": "inpaint",
}  # fmt: skip


@node("ControlNetLoader", "loaders", light=True)
def load(control_net_name: ControlFile) -> ControlRef:
    """A ControlNet, control-LoRA or T2I-Adapter."""
    return ControlRef(control_net_name)


@node("DiffControlNetLoader", "loaders", light=True)
def load_for(model: ModelRef, control_net_name: ControlFile) -> ControlRef:
    """A ControlNet that was saved as its difference from a model."""
    return ControlRef(control_net_name)


@node("SetUnionControlNetType", "conditioning/controlnet", light=True)
def union_kind(control_net: ControlRef, type: Annotated[str, Choice(tuple(SHOWS))] = "auto") -> ControlRef:
    """Says what the hint of a ControlNet-Union shows."""
    return replace(control_net, shows=SHOWS[type])


def _with(conditioning: Conditioning, use: ControlUse) -> Conditioning:
    return tuple(replace(part, controls=(*part.controls, use)) for part in conditioning)


@node("ControlNetApply", "conditioning/controlnet")
def apply(conditioning: Conditioning, control_net: ControlRef, image: Images, strength: Strength = 1.0) -> Conditioning:
    """Steers by a hint."""
    return _with(conditioning, ControlUse(control_net, image[0].image, strength)) if strength else conditioning


@node("ControlNetApplyAdvanced", "conditioning/controlnet", "positive", "negative")
def apply_to_both(
    run: Run, positive: Conditioning, negative: Conditioning, control_net: ControlRef, image: Images,
    strength: Strength = 1.0, start_percent: Share = 0.0, end_percent: Share = 1.0, vae: VaeRef | None = None,
) -> tuple[Conditioning, Conditioning]:  # fmt: skip
    """Steers both conditionings by a hint in a share of the steps."""
    use = ControlUse(control_net, image[0].image, strength, start_percent, end_percent)
    return (_with(positive, use), _with(negative, use)) if strength else (positive, negative)


@node("ControlNetApplySD3", "conditioning/controlnet", "positive", "negative")
def apply_sd3(
    run: Run, positive: Conditioning, negative: Conditioning, control_net: ControlRef, vae: VaeRef, image: Images,
    strength: Strength = 1.0, start_percent: Share = 0.0, end_percent: Share = 1.0,
) -> tuple[Conditioning, Conditioning]:  # fmt: skip
    """Steers both conditionings of 3 and 3.5 by a hint."""
    return apply_to_both(run, positive, negative, control_net, image, strength, start_percent, end_percent, vae)
