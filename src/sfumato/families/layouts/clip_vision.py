"""CLIP's vision transformer as transformers names it, and as OpenAI and OpenCLIP do."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from sfumato.checkpoint.keymap import Rule, Shapes, rename
from sfumato.families.layouts import open_clip
from sfumato.spec import CLIPVisionConfig

ANCHOR, THEIR_ANCHOR = "vision_model.embeddings.class_embedding", "class_embedding"
HEADS = {768: 12, 1024: 16, 1280: 16, 1664: 16}  # of ViT-B, L, H and bigG
LAION = (1280, 1664)  # trained by OpenCLIP, with the exact GELU
# What files hold besides: the text tower, and numbers that follow from the sizes.
IGNORED = (r"(.*\.)?position_ids", r"(.*\.)?logit_(scale|bias)")


def found_in(shapes: Shapes) -> tuple[str, bool] | None:
    """What stands before a tower's names in a file, and whether they are transformers'; None where there is none."""
    for name in shapes:
        if name.endswith(ANCHOR):
            return name.removesuffix(ANCHOR), True
    for prefix in ("visual.", "model.visual.", ""):
        if prefix + THEIR_ANCHOR in shapes and prefix + "conv1.weight" in shapes:
            return prefix, False
    return None


def rules(names: Iterable[str], prefix: str, transformers: bool) -> list[Rule]:
    """The map of all parameters of our tower."""
    return rename(names, lambda name: prefix + name) if transformers else open_clip.rules(names, prefix)


def sizes(shapes: Shapes, prefix: str, transformers: bool, config: Mapping[str, Any]) -> CLIPVisionConfig:
    """The sizes of a tower from the shapes of its tensors; LookupError or ValueError when they are not those of one.

    Heads and activation do not show: `config` is transformers' config.json of a folder, or {}.
    """
    own = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
    stem = "vision_model.embeddings." if transformers else ""
    width, _, patch, _ = own["vision_model.embeddings.patch_embedding.weight" if transformers else "conv1.weight"]
    positions = own[f"{stem}position_embedding.weight" if transformers else "positional_embedding"][0]
    layer = "vision_model.encoder.layers" if transformers else "transformer.resblocks"
    first = own[f"{layer}.0.mlp.fc1.weight" if transformers else f"{layer}.0.mlp.c_fc.weight"]
    projection = own.get("visual_projection.weight", (None,))[0] if transformers else own.get("proj", (0, None))[1]
    config = config.get("vision_config", config)
    exact = width in LAION if "hidden_act" not in config else config["hidden_act"] == "gelu"
    return CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=first[0],
        layers=len({match[1] for name in own if (match := re.match(re.escape(layer) + r"\.(\d+)\.", name))}),
        heads=int(config.get("num_attention_heads") or HEADS.get(width) or max(1, width // 64)),
        size=patch * math.isqrt(positions - 1),
        patch=patch,
        activation="gelu" if exact else "quick_gelu",
        projection_dim=projection,
    )
