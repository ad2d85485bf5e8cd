"""Files of hypernetworks, as AUTOMATIC1111's web UI trains and saves them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor, nn

from sfumato.checkpoint.checkpoint import Checkpoint, quote
from sfumato.errors import SfumatoError
from sfumato.nets.hypernetwork import ACTIVATIONS, Hypernetwork, attention_widths
from sfumato.nets.layers import Linear
from sfumato.spec import Spec

# WIDTH.0 are the layers before the keys, WIDTH.1 those before the values; the oldest files count linear1 and linear2.
_NAME = re.compile(r"(?P<width>\d+)\.(?P<side>[01])\.linear(?:\.(?P<place>\d+)|(?P<old>[12]))\.(?P<kind>weight|bias)")
TEXT_WIDTHS = {768: "1.x", 1024: "2.x", 1280: "the XL refiner", 2048: "XL"}


def is_hypernetwork(names: Iterable[str]) -> bool:
    """Whether the names of a file's tensors are those of a hypernetwork."""
    return any(_NAME.fullmatch(name) for name in names)


def read(checkpoint: Checkpoint) -> Hypernetwork:
    """The hypernetwork that a file holds, in float32.

    How its layers follow each other shows in their names and shapes, the activation stands in the file. Raises
    SfumatoError for a file that holds none, or one whose parts do not fit together.
    """
    stacks: dict[tuple[int, int], dict[int, dict[str, Tensor]]] = defaultdict(lambda: defaultdict(dict))
    for name in checkpoint.tensors:
        match = _NAME.fullmatch(name)
        if match is not None:
            place = int(match["place"]) if match["old"] is None else int(match["old"]) - 1
            value = checkpoint.read(name).detach().float().clone()
            stacks[int(match["width"]), int(match["side"])][place][match["kind"]] = value
    path = checkpoint.path
    widths = sorted({width for width, _ in stacks})
    if not widths or len(stacks) != 2 * len(widths):
        raise SfumatoError(f"{path} holds no whole hypernetwork; give the .pt file that AUTOMATIC1111's web UI saved")
    said = checkpoint.metadata.get("activation_func") or "linear"
    activation, last = ACTIVATIONS.get(said.lower()), checkpoint.metadata.get("activate_output") != "False"
    if activation is None:
        raise SfumatoError(f"{path} has the activation {quote(said)}; known are {', '.join(sorted(ACTIVATIONS))}")
    made = {key: _stack(path, key[0], layers, activation(), last) for key, layers in stacks.items()}
    keys, values = ({width: made[width, side] for width in widths} for side in (0, 1))
    return Hypernetwork(keys, values).eval().requires_grad_(False)


def check(hypernetwork: Hypernetwork, spec: Spec, path: Path) -> None:
    """Raises SfumatoError unless every width of a file is one that attentions of a model's network look at."""
    if spec.transformer is not None:
        raise SfumatoError(f"{path} is a hypernetwork, which changes attentions of a U-Net; {spec.title} has none")
    here = attention_widths(spec.unet)
    strange = [width for width in hypernetwork.widths if width not in here]
    if strange:
        theirs = next((family for width, family in TEXT_WIDTHS.items() if width in strange), None)
        made_for = f"it was made for {theirs}; " if theirs else ""
        shown, known = (", ".join(map(str, sorted(some))) for some in (strange, here))
        raise SfumatoError(
            f"{path} does not fit {spec.title}: {made_for}its layers for attentions {shown} wide have no place there "
            f"({known}); take a hypernetwork that was made for this model"
        )


def _stack(
    path: Path, width: int, layers: Mapping[int, Mapping[str, Tensor]], activation: nn.Module, last: bool
) -> nn.Module:
    """The layers in their order: after each linear one the activation, after the last only if `last`; then norms.

    Dropout does nothing when pictures are drawn, but has a number of its own. Raises SfumatoError.
    """
    ordered = [layers[place] for place in sorted(layers)]
    if any("weight" not in one for one in ordered):
        raise SfumatoError(f"{path} lacks weights of a layer; it is not whole, download it again")
    count = sum(one["weight"].dim() == 2 for one in ordered)
    modules: list[nn.Module] = []
    size, done = width, 0
    for one in ordered:
        weight, bias = one["weight"], one.get("bias")
        linear = weight.dim() == 2
        if weight.dim() not in (1, 2) or weight.shape[-1] != size or (bias is not None and len(bias) != len(weight)):
            shape = tuple(weight.shape)
            raise SfumatoError(f"{path} has a layer of shape {shape} where {size} numbers come in; it is broken")
        module: nn.Module = Linear(size, len(weight), bias=bias is not None) if linear else nn.LayerNorm(size)
        module.load_state_dict(dict(one))
        modules.append(module)
        if linear:
            size, done = len(weight), done + 1
            if done < count or last:
                modules.append(activation)
    if size != width:
        raise SfumatoError(
            f"{path} makes {size} numbers of {width}; a hypernetwork keeps the width, this one is broken"
        )
    return nn.Sequential(*modules)
