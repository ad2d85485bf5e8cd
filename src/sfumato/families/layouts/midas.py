"""DPT-hybrid in the original layout (MiDaS on timm's vision transformer), as the 2.0-depth file carries it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import count
from math import isqrt

from sfumato.checkpoint.keymap import SPLIT3, Rule, Shapes, width
from sfumato.spec import DPTConfig

HEAD = "pretrained.model.head."  # classes of ImageNet, which the transformer learned before; depth needs none

# Ours and theirs, in this order; the longer names first where one begins like another.
NAMES = (
    (r"dpt\.embeddings\.cls_token", r"pretrained.model.cls_token"),
    (r"dpt\.embeddings\.position_embeddings", r"pretrained.model.pos_embed"),
    (r"dpt\.embeddings\.backbone\.bit\.embedder\.convolution", r"pretrained.model.patch_embed.backbone.stem.conv"),
    (r"dpt\.embeddings\.backbone\.bit\.embedder\.norm", r"pretrained.model.patch_embed.backbone.stem.norm"),
    (
        r"dpt\.embeddings\.backbone\.bit\.encoder\.stages\.(\d)\.layers\.(.+)",
        r"pretrained.model.patch_embed.backbone.stages.\1.blocks.\2",
    ),
    (r"dpt\.embeddings\.projection", r"pretrained.model.patch_embed.proj"),
    (r"dpt\.encoder\.layer\.(\d+)\.attention\.attention\.query", r"pretrained.model.blocks.\1.attn.qkv"),
    (r"dpt\.encoder\.layer\.(\d+)\.attention\.output\.dense", r"pretrained.model.blocks.\1.attn.proj"),
    (r"dpt\.encoder\.layer\.(\d+)\.layernorm_before", r"pretrained.model.blocks.\1.norm1"),
    (r"dpt\.encoder\.layer\.(\d+)\.layernorm_after", r"pretrained.model.blocks.\1.norm2"),
    (r"dpt\.encoder\.layer\.(\d+)\.intermediate\.dense", r"pretrained.model.blocks.\1.mlp.fc1"),
    (r"dpt\.encoder\.layer\.(\d+)\.output\.dense", r"pretrained.model.blocks.\1.mlp.fc2"),
    (r"dpt\.layernorm", r"pretrained.model.norm"),
    (r"neck\.reassemble_stage\.readout_projects\.2\.0", r"pretrained.act_postprocess3.0.project.0"),
    (r"neck\.reassemble_stage\.readout_projects\.3\.0", r"pretrained.act_postprocess4.0.project.0"),
    (r"neck\.reassemble_stage\.layers\.2\.projection", r"pretrained.act_postprocess3.3"),
    (r"neck\.reassemble_stage\.layers\.3\.projection", r"pretrained.act_postprocess4.3"),
    (r"neck\.reassemble_stage\.layers\.3\.resize", r"pretrained.act_postprocess4.4"),
    *((rf"neck\.convs\.{i}", rf"scratch.layer{i + 1}_rn") for i in range(4)),
    # They count the fusions from the finest.
    *(
        (rf"neck\.fusion_stage\.layers\.{i}\.{ours}", rf"scratch.refinenet{4 - i}.{theirs}")
        for i in range(4)
        for ours, theirs in (
            (r"projection", r"out_conv"),
            (r"residual_layer(\d)\.convolution(\d)", r"resConfUnit\1.conv\2"),
        )
    ),
    (r"head\.head\.(\d)", r"scratch.output_conv.\1"),
)


def rules(names: Iterable[str], prefix: str) -> list[Rule]:
    """The map of all parameters `names` of our network; `prefix` stands before theirs."""
    result = []
    for name in names:
        if ".attention.attention." not in name:
            result.append(Rule((name,), (prefix + _theirs(name),)))
        elif ".query." in name:
            result.append(
                Rule(
                    tuple(name.replace("query", part) for part in ("query", "key", "value")),
                    (prefix + _theirs(name),),
                    SPLIT3,
                )
            )
    return result


def _theirs(name: str) -> str:
    for ours, theirs in NAMES:
        if match := re.fullmatch(rf"{ours}(\.weight|\.bias)?", name):
            return match.expand(theirs) + (match[match.re.groups] or "")
    raise ValueError(f"{name} is no parameter of the depth network")


def sizes(shapes: Shapes, prefix: str) -> DPTConfig:
    """The sizes of a network from the shapes of its tensors. Raises LookupError when they are not those of one.

    The number of norm groups does not show in shapes and is left at the release's; heads are 64 wide.
    """
    own = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
    backbone, transformer = "pretrained.model.patch_embed.backbone.", "pretrained.model."
    hidden = own[f"{transformer}pos_embed"][2]
    return DPTConfig(
        stem=width(own, f"{backbone}stem.conv"),
        stages=tuple(width(own, f"{backbone}stages.{i}.blocks.0.conv3") for i in range(3)),
        depths=tuple(_count(own, f"{backbone}stages.{i}.blocks.{{}}.conv1") for i in range(3)),
        positions=isqrt(own[f"{transformer}pos_embed"][1] - 1),
        hidden=hidden,
        intermediate=width(own, f"{transformer}blocks.0.mlp.fc1"),
        layers=_count(own, f"{transformer}blocks.{{}}.norm1"),
        heads=max(1, hidden // 64),
        neck=tuple(own[f"scratch.layer{i}_rn.weight"][1] for i in (1, 2, 3, 4)),
        fusion=width(own, "scratch.layer1_rn"),
    )


def _count(own: Shapes, layer: str) -> int:
    return next(n for n in count() if not width(own, layer.format(n)))
