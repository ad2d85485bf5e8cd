"""OpenCLIP's towers in their own names, in which the originals of 2.x (ViT-H) and XL (ViT-bigG) keep the text tower."""

from __future__ import annotations

import re
from collections.abc import Iterable

from sfumato.checkpoint.keymap import SPLIT3, TRANSPOSE, Rule, Shapes
from sfumato.families.layouts.clip_text import HEAD
from sfumato.spec import CLIPTextConfig

ENDS = {
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
}
LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
VISION_ENDS = {
    "vision_model.embeddings.class_embedding": "class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "positional_embedding",
    **{f"vision_model.{ours}.{kind}": f"{theirs}.{kind}" for kind in ("weight", "bias")
       for ours, theirs in (("pre_layrnorm", "ln_pre"), ("post_layernorm", "ln_post"))},
}  # fmt: skip
PROJECTION, VISION_PROJECTION = "text_projection", "proj"
LOGIT_SCALE = "logit_scale"  # steers only the training of the tower
PAD = 0
# ViT-bigG/14 as XL, 3 and 3.5 read it: at the last layer but one, without the final norm, and pooled.
BIG_G = CLIPTextConfig(
    hidden_size=1280,
    intermediate_size=5120,
    layers=32,
    heads=20,
    activation="gelu",
    pad_token_id=PAD,
    projection_dim=1280,
    skip=2,
    normalised=False,
    pooled="projected",
)


def rules(names: Iterable[str], prefix: str) -> list[Rule]:
    """The map of all parameters `names` of our text or vision tower; `prefix` stands before theirs."""
    result = []
    ends = ENDS | VISION_ENDS
    for name in names:
        layer = re.fullmatch(r"(?:text|vision)_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", name)
        if name in ends:
            result.append(Rule((name,), (prefix + ends[name],)))
        elif layer is None:  # the projection, which they multiply from the other side
            projection = VISION_PROJECTION if name.startswith("visual") else PROJECTION
            result.append(Rule((name,), (prefix + projection,), TRANSPOSE))
        elif layer[2] in LAYER:
            result.append(Rule((name,), (f"{prefix}transformer.resblocks.{layer[1]}.{LAYER[layer[2]]}.{layer[3]}",)))
        elif layer[2] == "self_attn.q_proj":
            ours = tuple(name.replace("q_proj", f"{part}_proj") for part in "qkv")
            theirs = f"{prefix}transformer.resblocks.{layer[1]}.attn.in_proj_{layer[3]}"
            result.append(Rule(ours, (theirs,), SPLIT3))
    return result


def sizes(shapes: Shapes, prefix: str) -> CLIPTextConfig:
    """The sizes of a tower from the shapes of its tensors; LookupError when they are not those of one.

    Its prompts are padded with token 0, not with the end token.
    """
    own = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
    vocabulary, width = own["token_embedding.weight"]
    return CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=own["transformer.resblocks.0.mlp.c_fc.weight"][0],
        layers=sum(re.fullmatch(r"transformer\.resblocks\.\d+\.ln_1\.weight", name) is not None for name in own),
        heads=max(1, width // HEAD),
        max_length=own["positional_embedding"][0],
        activation="gelu",
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=PAD,
        projection_dim=own[PROJECTION][1] if PROJECTION in own else None,
    )
