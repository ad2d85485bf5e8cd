"""The transformer of 3 and 3.5 in its original layout (`mmditx.py`): names and sizes."""

from __future__ import annotations

import re
from collections.abc import Iterable

from sfumato.checkpoint.keymap import SPLIT3, SWAP_HALVES, Rule, Shapes
from sfumato.spec import MMDiTConfig

HEAD = 64  # every release has heads of this width
ENDS = {
    "pos_embed.proj": "x_embedder.proj",
    "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
    "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2",
    "context_embedder": "context_embedder",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
    "proj_out": "final_layer.linear",
}
BLOCK = {
    "norm1.linear": "x_block.adaLN_modulation.1",
    "norm1_context.linear": "context_block.adaLN_modulation.1",
    "attn.to_q": "x_block.attn.qkv",
    "attn.add_q_proj": "context_block.attn.qkv",
    "attn2.to_q": "x_block.attn2.qkv",
    "attn.to_out.0": "x_block.attn.proj",
    "attn.to_add_out": "context_block.attn.proj",
    "attn2.to_out.0": "x_block.attn2.proj",
    "attn.norm_q": "x_block.attn.ln_q",
    "attn.norm_k": "x_block.attn.ln_k",
    "attn.norm_added_q": "context_block.attn.ln_q",
    "attn.norm_added_k": "context_block.attn.ln_k",
    "attn2.norm_q": "x_block.attn2.ln_q",
    "attn2.norm_k": "x_block.attn2.ln_k",
    "ff.net.0.proj": "x_block.mlp.fc1",
    "ff.net.2": "x_block.mlp.fc2",
    "ff_context.net.0.proj": "context_block.mlp.fc1",
    "ff_context.net.2": "context_block.mlp.fc2",
}


def rules(cfg: MMDiTConfig, names: Iterable[str], prefix: str) -> list[Rule]:
    """The map of all tensors `names` of our transformer; `prefix` stands before theirs."""
    last = f"transformer_blocks.{cfg.depth - 1}.norm1_context.linear"
    result = []
    for name in names:
        module, _, kind = name.rpartition(".")
        block = re.fullmatch(r"transformer_blocks\.(\d+)\.(.+)", module)
        if name == "pos_embed.pos_embed":
            result.append(Rule((name,), (f"{prefix}pos_embed",)))
        elif block is None:
            swapped = (SWAP_HALVES,) if module == "norm_out.linear" else ()
            result.append(Rule((name,), (f"{prefix}{ENDS[module]}.{kind}",), *swapped))
        elif block[2] in BLOCK:
            theirs = f"{prefix}joint_blocks.{block[1]}.{BLOCK[block[2]]}.{kind}"
            if theirs.rsplit(".", 2)[1] == "qkv":
                ours = tuple(re.sub(r"(to_|add_)q", rf"\1{part}", name) for part in "qkv")
                result.append(Rule(ours, (theirs,), SPLIT3))
            else:
                result.append(Rule((name,), (theirs,), *((SWAP_HALVES,) if module == last else ())))
    return result


def sizes(shapes: Shapes, prefix: str, folder: bool = False) -> MMDiTConfig:
    """The sizes of a transformer from the shapes of its tensors; `folder`: under the names of a diffusers folder.

    Raises LookupError when the tensors are not those of such a transformer.
    """
    ends, block = ({ours: ours for ours in table} if folder else table for table in (ENDS, BLOCK))
    blocks, table = ("transformer_blocks", "pos_embed.pos_embed") if folder else ("joint_blocks", "pos_embed")
    own = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
    numbers = sorted({int(match[1]) for name in own if (match := re.match(rf"{blocks}\.(\d+)\.", name))})
    hidden, channels, patch, _ = own[f"{ends['pos_embed.proj']}.weight"]
    drawn = own[f"{ends['proj_out']}.bias"][0] // patch**2
    return MMDiTConfig(
        in_channels=channels,
        out_channels=None if drawn == channels else drawn,
        patch=patch,
        hidden=hidden,
        heads=max(1, hidden // HEAD),
        depth=len(numbers),
        context_dim=own["context_embedder.weight"][1],
        pooled_dim=own[f"{ends['time_text_embed.text_embedder.linear_1']}.weight"][1],
        positions=round(own[table][-2] ** 0.5),
        qk_norm=f"{blocks}.0.{block['attn.norm_q']}.weight" in own,
        dual=tuple(i for i in numbers if f"{blocks}.{i}.{block['attn2.to_q']}.weight" in own),
    )
