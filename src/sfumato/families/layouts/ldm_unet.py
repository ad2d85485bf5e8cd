"""The U-Net in the original layout (latent-diffusion's `openaimodel.py`): names and sizes, for 1.x, 2.x and XL."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import count, takewhile
from typing import Literal

from sfumato.checkpoint.keymap import Rule, Shapes, rename, width
from sfumato.spec import UNetConfig

GROUPS = 32  # of every norm in this layout
Blocks = list[list[tuple[int, int]]]  # (channels, transformer layers) of the blocks of every level

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
    "time_embedding.cond_proj": "time_embed.cond_proj",
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
    for level in range(len(cfg.depth)):
        for i in range(cfg.blocks + 1):
            n += 1
            result[f"up_blocks.{level}.resnets.{i}"] = f"output_blocks.{n}.0"
            if any(cfg.up_depths(last - level)):
                result[f"up_blocks.{level}.attentions.{i}"] = f"output_blocks.{n}.1"
        if level < last:
            place = 2 if any(cfg.up_depths(last - level)) else 1
            result[f"up_blocks.{level}.upsamplers.0.conv"] = f"output_blocks.{n}.{place}.conv"
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
    down: Blocks = [[]]
    for n in count(1):
        if width(own, f"input_blocks.{n}.0.op"):
            down.append([])
        elif channels := width(own, f"input_blocks.{n}.0.in_layers.2"):
            down[-1].append((channels, _depth(own, f"input_blocks.{n}.1")))
        else:
            break
    up: Blocks = [[]]
    for n in count():
        if not (channels := width(own, f"output_blocks.{n}.0.in_layers.2")):
            break
        up[-1].append((channels, _depth(own, f"output_blocks.{n}.1")))
        if any(width(own, f"output_blocks.{n}.{i}.conv") for i in (1, 2)):
            up.append([])
    middle = [bool(width(own, f"middle_block.{i}.in_layers.2")) for i in (0, 2)]
    config = _config(own, down, up, middle, _depth(own, "middle_block.1"))
    return replace(
        config,
        in_channels=own["input_blocks.0.0.weight"][1],
        out_channels=width(own, "out.2"),
        vector_dim=own["label_emb.0.0.weight"][1] if "label_emb.0.0.weight" in own else None,
        classes=own["label_emb.weight"][0] if "label_emb.weight" in own else None,
        guidance_dim=own["time_embed.cond_proj.weight"][1] if "time_embed.cond_proj.weight" in own else None,
    )


def folder_sizes(shapes: Shapes, prefix: str) -> UNetConfig:
    """The same of a U-Net under the names of a diffusers folder."""
    own = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}

    def levels(side: str) -> Blocks:
        result: Blocks = []
        while width(own, f"{side}.{len(result)}.resnets.0.conv1"):
            level = f"{side}.{len(result)}"
            widths = takewhile(bool, (width(own, f"{level}.resnets.{i}.conv1") for i in count()))
            result.append([(found, _depth(own, f"{level}.attentions.{i}")) for i, found in enumerate(widths)])
        return result

    middle = [bool(width(own, f"mid_block.resnets.{i}.conv1")) for i in (0, 1)]
    config = _config(own, levels("down_blocks"), levels("up_blocks"), middle, _depth(own, "mid_block.attentions.0"))
    vectors = ("add_embedding.linear_1.weight", "class_embedding.linear_1.weight")  # of XL, of unCLIP
    guidance = "time_embedding.cond_proj.weight"
    return replace(
        config,
        in_channels=own["conv_in.weight"][1],
        out_channels=width(own, "conv_out"),
        vector_dim=next((own[name][1] for name in vectors if name in own), None),
        classes=own["class_embedding.weight"][0] if "class_embedding.weight" in own else None,
        guidance_dim=own[guidance][1] if guidance in own else None,
    )


def _config(own: Shapes, down: Blocks, up: Blocks, middle: list[bool], middle_depth: int) -> UNetConfig:
    """What both layouts of names show alike; `down` and `up` are levels in the order in which they are computed."""
    if any(not level or len(set(level)) > 1 or len(level) != len(down[0]) for level in down):
        raise LookupError("the U-Net's levels are not alike")
    depth = tuple(level[0][1] for level in down)
    up_depth = tuple(tuple(layers for _, layers in level) for level in reversed(up))
    contexts = {shape[1] for name, shape in own.items() if name.endswith("attn2.to_k.weight")}
    projections = {len(shape) for name, shape in own.items() if name.endswith("proj_in.weight")}
    if len(contexts) != 1 or len(projections) != 1:
        raise LookupError("the U-Net's attention blocks are not alike")
    if any(level[0][0] % GROUPS for level in down):
        raise LookupError(f"the U-Net's channels are not multiples of {GROUPS}")
    # Where a whole level or block is missing, the usual shape is assumed, so that what is missing can be named.
    whole = len(up_depth) == len(depth) and all(len(level) == len(down[0]) + 1 for level in up_depth)
    distilled = whole and all((0 in level) <= (set(level) == {0}) for level in up_depth)
    symmetric = all(set(level) == {layers} for level, layers in zip(up_depth, depth, strict=False))
    blocks: dict[tuple[bool, ...], Literal[0, 1]] = {(False, False): 0, (True, False): 1}
    found: Literal[0, 1, 2] = 2 if middle_depth else blocks.get(tuple(middle), 2)
    return UNetConfig(
        channels=tuple(level[0][0] for level in down),
        blocks=len(down[0]),
        depth=depth,
        up_depth=up_depth if distilled and not symmetric else (),
        middle_depth=middle_depth if found == 2 else depth[-1] or 1,
        middle_blocks=found,
        context_dim=contexts.pop(),
        linear_projection=projections == {2},
    )


def _depth(own: Shapes, block: str) -> int:
    depth = 0
    while width(own, f"{block}.transformer_blocks.{depth}.norm1"):
        depth += 1
    return depth
