"""Files of IP-Adapter (Ye et al. 2023): plain, full and Plus, for 1.x, 2.x and XL, as their authors save them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from sfumato.checkpoint.checkpoint import Checkpoint
from sfumato.checkpoint.keymap import Shapes
from sfumato.errors import SfumatoError
from sfumato.nets.ip_adapter import (
    TOKENS,
    FullProjection,
    ImageAttention,
    IPAdapter,
    Projection,
    Resampler,
    cross_attentions,
)
from sfumato.nets.unet import UNet

PROJECTION, LAYERS = "image_proj.", "ip_adapter."
_LAYER = re.compile(r"ip_adapter\.(\d+)\.(to_[kv]_ip\.weight)")
FAMILIES = {768: "1.x", 1024: "2.x", 2048: "XL"}  # by the width of the text


def is_ip_adapter(names: Iterable[str]) -> bool:
    """Whether the names of a file's tensors are those of an IP-Adapter."""
    names = list(names)
    return any(name.startswith(PROJECTION) for name in names) and any(_LAYER.fullmatch(name) for name in names)


def described(shapes: Shapes) -> tuple[str, str | None, int]:
    """Which kind of IP-Adapter a file holds, for which family, and for how many cross-attentions."""
    numbers = {match[1]: shape for name, shape in shapes.items() if (match := _LAYER.fullmatch(name))}
    family = FAMILIES.get(next(iter(numbers.values()))[-1])
    marks = (("latents", "Plus"), ("proj.3.weight", "full"))
    kind = next((kind for mark, kind in marks if PROJECTION + mark in shapes), "plain")
    faces = "FaceID, which cannot be used here"
    return faces if _from_faces(shapes) else kind, family and f"Stable Diffusion {family}", len(numbers)


def read(checkpoint: Checkpoint, network: nn.Module, title: str) -> IPAdapter:
    """The IP-Adapter that a file holds for a U-Net, in float32 on the CPU. `title` is the model's, for errors.

    Raises SfumatoError for a file that is broken, of another kind, or made for another family.
    """
    path, shapes = checkpoint.path, checkpoint.shapes
    if not is_ip_adapter(shapes):
        raise SfumatoError(f"{path} is no IP-Adapter; give a file with tensors image_proj and ip_adapter")
    if not isinstance(network, UNet):
        raise SfumatoError(f"{path} is an IP-Adapter for a U-Net; {title} has none")
    if _from_faces(shapes):
        raise SfumatoError(
            f"{path} is an IP-Adapter FaceID, which needs a recogniser of faces that is not here; "
            "take a plain, Plus or full one"
        )
    numbers = sorted({int(match[1]) for name in shapes if (match := _LAYER.fullmatch(name))})
    places = cross_attentions(network)
    width = shapes.get(f"{LAYERS}{numbers[0]}.to_k_ip.weight", (0, 0))[-1]
    if len(numbers) != len(places) or width != network.cfg.context_dim:
        made_for = FAMILIES.get(width, f"a U-Net that reads text {width} wide")
        raise SfumatoError(
            f"{path} was made for {made_for} ({len(numbers)} cross-attentions); this model is {title} "
            f"({len(places)} of text {network.cfg.context_dim} wide): take an IP-Adapter made for it"
        )
    try:
        with torch.device("meta"):
            projection = _projection(shapes)
            layers = [ImageAttention(width, layer.attn2.to_q.in_features) for layer in places]
            result = IPAdapter(projection, layers)
        order = {str(number): str(place) for place, number in enumerate(numbers)}
        result.load_state_dict(_tensors(checkpoint, order), assign=True)
    except (LookupError, ValueError, TypeError, RuntimeError) as error:
        raise SfumatoError(f"{path} is no whole IP-Adapter for {title}; download it again") from error
    return result.eval().requires_grad_(False)


def written(adapter: IPAdapter, dtype: torch.dtype) -> dict[str, Tensor]:
    """The tensors of an adapter under its authors' names, who count the attentions to the picture itself as well."""
    tensors = {}
    for name, value in adapter.state_dict().items():
        match = _LAYER.fullmatch(name)
        named = name if match is None else f"{LAYERS}{2 * int(match[1]) + 1}.{match[2]}"
        tensors[named] = value.detach().to("cpu", dtype).contiguous()
    return tensors


def _from_faces(shapes: Shapes) -> bool:
    """Whether a face is looked at: the projection makes several tokens of a vector, or there are LoRAs besides."""
    if any("lora" in name or "perceiver_resampler" in name for name in shapes):
        return True
    return f"{PROJECTION}proj.0.weight" in shapes and f"{PROJECTION}proj.3.weight" not in shapes


def _tensors(checkpoint: Checkpoint, order: Mapping[str, str]) -> dict[str, Tensor]:
    """All tensors of a file by our names, in which layers are counted from 0 without gaps."""
    found = {}
    for name in checkpoint.tensors:
        match = _LAYER.fullmatch(name)
        if match is not None:
            name, key = f"{LAYERS}{order[match[1]]}.{match[2]}", name
        elif name.startswith(PROJECTION):
            key = name
        else:
            continue
        found[name] = checkpoint.read(key).detach().float().clone()
    return found


def _projection(shapes: Shapes) -> Projection | FullProjection | Resampler:
    """The projection of the sizes that a file's shapes tell. Raises LookupError."""
    own = {name.removeprefix(PROJECTION): shape for name, shape in shapes.items() if name.startswith(PROJECTION)}
    if "latents" in own:
        _, queries, hidden = own["latents"]
        depth = len({match[1] for name in own if (match := re.match(r"layers\.(\d+)\.", name))})
        inner, wide = own["layers.0.0.to_q.weight"][0], own["layers.0.1.1.weight"][0]
        return Resampler(own["proj_in.weight"][1], hidden, own["proj_out.weight"][0], queries, depth, inner, wide)
    if "proj.3.weight" in own:
        inner, seen = own["proj.0.weight"]
        return FullProjection(seen, inner, own["proj.3.weight"][0])
    total, seen = own["proj.weight"]
    return Projection(seen, total // TOKENS)
