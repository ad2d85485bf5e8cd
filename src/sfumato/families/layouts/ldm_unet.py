"""The U-Net in the original layout (latent-diffusion's `openaimodel.py`): names and sizes, for 1.x, 2.x and XL."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count

from sfumato.checkpoint.keymap import Rule, Shapes, rename, width
from sfumato.spec import UNetConfig

GROUPS = 32  # of every norm in this layout

RESBLOCK = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "class_embedding": "label_emb",
    "conv_in": "input_blocks.0.0",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}


def blocks(cfg: UNetConfig) -> dict[str, str]:
    """Our modules and theirs: they number all blocks of the way down, and all of the way up, in one sequence."""
    result = dict(ENDS)
    last = len(cfg.channels) - 1
    n = 0
    for level, depth in enumerate(cfg.depth):
        for i in range(cfg.blocks):
            n += 1
            result[f"down_blocks.{level}.resnets.{i}"] = f"input_blocks.{n}.0"
            if depth:
                result[f"down_blocks.{level}.attentions.{i}"] = f"input_blocks.{n}.1"
        if level < last:
            n += 1
            result[f"down_blocks.{level}.downsamplers.0.conv"] = f"input_blocks.{n}.0.op"
    n = -1
    for level, depth in enumerate(reversed(cfg.depth)):
        for i in range(cfg.blocks + 1):
            n += 1
            result[f"up_blocks.{level}.resnets.{i}"] = f"output_blocks.{n}.0"
            if depth:
                result[f"up_blocks.{level}.attentions.{i}"] = f"output_blocks.{n}.1"
        if level < last:
            result[f"up_blocks.{level}.upsamplers.0.conv"] = f"output_blocks.{n}.{2 if depth else 1}.conv"
    return result


def rules(cfg: UNetConfig, names: Iterable[str], prefix: str) -> list[Rule]:
    """The map of all parameters `names` of our U-Net; `prefix` stands before theirs."""
    table = blocks(cfg)

    def theirs(name: str) -> str:
        block = name
        while block not in table:
            block = block.rpartition(".")[0]
        layer, dot, rest = name[len(block) + 1 :].partition(".")
        return f"{prefix}{table[block]}.{RESBLOCK[layer] if '.resnets.' in block else layer}{dot}{rest}"

    return rename(names, theirs)


def sizes(shapes: Shapes, prefix: str) -> UNetConfig:
    """The sizes of a U-Net from the shapes of its tensors. Raises LookupError when they are not those of one.

    The number of heads and of norm groups does not show in shapes: they are left at the defaults of 1.x.
    """
    own = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
    levels: list[list[tuple[int, int]]] = [[]]  # (channels, transformer layers) of the blocks of every level
    for n in count(1):
        if width(own, f"input_blocks.{n}.0.op"):
            levels.append([])
        elif channels := width(own, f"input_blocks.{n}.0.in_layers.2"):
            levels[-1].append((channels, _depth(own, f"input_blocks.{n}.1")))
        else:
            break
    if any(not level or len(set(level)) > 1 or len(level) != len(levels[0]) for level in levels):
        raise LookupError("the U-Net's levels are not alike")
    contexts = {shape[1] for name, shape in own.items() if name.endswith("attn2.to_k.weight")}
    projections = {len(shape) for name, shape in own.items() if name.endswith("proj_in.weight")}
    if len(contexts) != 1 or len(projections) != 1:
        raise LookupError("the U-Net's attention blocks are not alike")
    if any(level[0][0] % GROUPS for level in levels):
        raise LookupError(f"the U-Net's channels are not multiples of {GROUPS}")
    return UNetConfig(
        in_channels=own["input_blocks.0.0.weight"][1],
        out_channels=width(own, "out.2"),
        channels=tuple(level[0][0] for level in levels),
        blocks=len(levels[0]),
        depth=tuple(level[0][1] for level in levels),
        middle_depth=_depth(own, "middle_block.1"),
        context_dim=contexts.pop(),
        linear_projection=projections == {2},
        vector_dim=own["label_emb.0.0.weight"][1] if "label_emb.0.0.weight" in own else None,
        classes=own["label_emb.weight"][0] if "label_emb.weight" in own else None,
    )


def _depth(own: Shapes, block: str) -> int:
    depth = 0
    while width(own, f"{block}.transformer_blocks.{depth}.norm1"):
        depth += 1
    return depth
