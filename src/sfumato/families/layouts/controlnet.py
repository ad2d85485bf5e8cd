"""ControlNets and T2I-Adapters in the layouts of their authors and of diffusers: names and sizes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from itertools import count, takewhile

from sfumato.checkpoint.keymap import SPLIT3, Rule, Shapes, rename, width
from sfumato.families.layouts import ldm_unet, sd3_mmdit
from sfumato.spec import ControlNetConfig, MMDiTConfig, MMDiTControlConfig, T2IAdapterConfig, UNetConfig

LORA, DIFFERENCE = "lora_controlnet", "difference"  # tensors that mark files which change a copy of the U-Net
CONTROL_TYPE = "control_type"  # of Stability AI's files for 3.5: blur, canny, depth
CANNY = 1
HINT, FOLDER_HINT = "input_hint_block", "controlnet_cond_embedding"
HEAD = 64  # of a transformer's heads, as in every release
# Of the transformer's ControlNets in Stability AI's layout.
SINGLE = {
    "norm1.linear": "adaLN_modulation.1",
    "attn.to_q": "attn.qkv",
    "attn.to_out.0": "attn.proj",
    "ff.net.0.proj": "mlp.fc1",
    "ff.net.2": "mlp.fc2",
}
SINGLE_ENDS = {ours: theirs for ours, theirs in sd3_mmdit.ENDS.items() if ours.startswith(("time_text", "pos_embed"))}
SINGLE_ALIASES = tuple((re.escape(theirs) + r"\.(\w+)", ours + r".\1") for ours, theirs in SINGLE_ENDS.items())


def unet_rules(cfg: ControlNetConfig, names: Iterable[str], prefix: str) -> list[Rule]:
    """The map of all parameters of a U-Net's ControlNet to the original names; `prefix` stands before theirs."""
    last = 2 * len(cfg.hint) - 3  # convolutions before the last one, each followed by an activation
    own: dict[str, str] = {"controlnet_mid_block": "middle_block_out.0"}
    own[f"{FOLDER_HINT}.conv_in"], own[f"{FOLDER_HINT}.conv_out"] = f"{HINT}.0", f"{HINT}.{2 * last}"
    own |= {f"{FOLDER_HINT}.blocks.{i}": f"{HINT}.{2 * i + 2}" for i in range(last - 1)}
    kept: list[str] = []
    result = []
    for name in names:
        layer, _, kind = name.rpartition(".")
        if match := re.fullmatch(r"controlnet_down_blocks\.(\d+)", layer):
            result.append(Rule((name,), (f"{prefix}zero_convs.{match[1]}.0.{kind}",)))
        elif layer in own:
            result.append(Rule((name,), (f"{prefix}{own[layer]}.{kind}",)))
        else:
            kept.append(name)
    return [*result, *ldm_unet.rules(cfg.unet, kept, prefix)]


def unet_sizes(shapes: Shapes, prefix: str, base: UNetConfig, folder: bool = False) -> ControlNetConfig:
    """The sizes of a U-Net's ControlNet from the shapes of its tensors, and what they do not show from its `base`'s.

    `folder`: under the names of diffusers. Raises LookupError when they are not those of a ControlNet.
    """
    own = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
    if not any(name.endswith("attn2.to_k.weight") for name in own):  # small ones have no attention, and read no text
        own |= {
            "attn2.to_k.weight": (1, base.context_dim),
            "proj_in.weight": (1,) * (2 if base.linear_projection else 4),
        }
    unet = (ldm_unet.folder_sizes if folder else ldm_unet.sizes)(own, "")
    unet = replace(unet, out_channels=base.out_channels, heads=base.heads, head_dim=base.head_dim, groups=base.groups)
    return ControlNetConfig(
        unet=unet,
        hint=_hint_widths(own, folder),
        kinds=own.get("task_embedding", (0,))[0],
        kind_width=own.get("task_embedding", (0, 320))[1],
        kind_layers=len(list(takewhile(bool, (width(own, f"transformer_layes.{i}.ln_1") for i in count())))),
    )


def lora_sizes(shapes: Shapes, prefix: str, base: UNetConfig) -> ControlNetConfig:
    """The sizes of the ControlNet that a file makes of the U-Net `base` by changing a copy of it."""
    own = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
    unet = replace(base, in_channels=own.get("input_blocks.0.0.weight", (0, base.in_channels))[1])
    return ControlNetConfig(unet=unet, hint=_hint_widths(own, folder=False))


def _hint_widths(own: Shapes, folder: bool) -> tuple[int, ...]:
    first = f"{FOLDER_HINT}.conv_in" if folder else f"{HINT}.0"
    later = f"{FOLDER_HINT}.blocks.{{}}" if folder else f"{HINT}.{{}}"
    places = count(1, 2) if folder else count(4, 4)
    channels, hint, *_ = own[f"{first}.weight"]
    widths = list(takewhile(bool, (width(own, later.format(i)) for i in places)))
    return (hint, channels, *widths)


def t2i_rules(cfg: T2IAdapterConfig, names: Iterable[str], prefix: str) -> list[Rule]:
    """The map of all parameters of a T2I-Adapter to its authors' names: they number the blocks of all maps through.

    A light one's have one name for both.
    """

    def theirs(name: str) -> str:
        match = re.fullmatch(r"body\.(\d+)\.(resnets\.(\d+)\.|in_conv\.)(.+)", name)
        if match is None or (cfg.light and match[3] is None):
            return prefix + name
        if cfg.light:
            return f"{prefix}body.{match[1]}.body.{match[3]}.{match[4]}"
        place = int(match[1]) * cfg.blocks + int(match[3] or 0)
        return f"{prefix}body.{place}.{'' if match[3] else 'in_conv.'}{match[4]}"

    return rename(names, theirs)


def t2i_sizes(shapes: Shapes, prefix: str, folder: bool) -> T2IAdapterConfig:
    """The sizes of a T2I-Adapter from the shapes of its tensors. Raises LookupError when they are not those of one."""
    own = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
    light = "conv_in.weight" not in own
    blocks = "body.0.resnets.{}.block1" if folder else "body.0.body.{}.block1"
    if not folder and not light:
        # Blocks of a level whose channels do not change begin at once, so that the first change tells how many there
        # are in a level.
        changes = [i for i in range(64) if width(own, f"body.{i}.in_conv")]
        per_level = changes[0]
        total = len(list(takewhile(bool, (width(own, f"body.{i}.block1") for i in count()))))
        channels = tuple(width(own, f"body.{i * per_level}.block1") for i in range(total // per_level))
    else:
        per_level = len(list(takewhile(bool, (width(own, blocks.format(i)) for i in count()))))
        last = "body.{}.out_conv" if light else "body.{}.resnets.0.block1"
        channels = tuple(takewhile(bool, (width(own, last.format(i)) for i in count())))
    taken = own["body.0.in_conv.weight" if light else "conv_in.weight"][1]
    unshuffle = 16 if not light and taken in (16**2, 3 * 16**2) else 8
    if not channels or not per_level or taken % unshuffle**2:
        raise LookupError(f"the T2I-Adapter has {len(channels)} levels of {per_level} blocks")
    halves = tuple(i == 2 if unshuffle == 16 else i > 0 for i in range(len(channels)))
    return T2IAdapterConfig(channels, per_level, taken // unshuffle**2, unshuffle, halves, light)


def mmdit_rules(cfg: MMDiTControlConfig, names: Iterable[str], prefix: str) -> list[Rule]:
    """The map of all tensors of a transformer's ControlNet to the names in Stability AI's files for 3.5."""
    result = []
    for name in names:
        module, _, kind = name.rpartition(".")
        block = re.fullmatch(r"transformer_blocks\.(\d+)\.(.+)", module)
        if block is None:
            result.append(Rule((name,), (prefix + name,)))
        elif block[2] in SINGLE:
            theirs = f"{prefix}transformer_blocks.{block[1]}.{SINGLE[block[2]]}.{kind}"
            if block[2] == "attn.to_q":
                ours = tuple(name.replace("to_q", f"to_{part}") for part in "qkv")
                result.append(Rule(ours, (theirs,), SPLIT3))
            else:
                result.append(Rule((name,), (theirs,)))
    return result


def _diffusers_name(name: str) -> str:
    matches = ((re.fullmatch(pattern, name), replacement) for pattern, replacement in SINGLE_ALIASES)
    return next((match.expand(replacement) for match, replacement in matches if match), name)


def mmdit_sizes(shapes: Shapes, prefix: str, base: MMDiTConfig) -> MMDiTControlConfig:
    """The sizes of a transformer's ControlNet from the shapes of its tensors, for the transformer `base`.

    Raises LookupError when they are not those of one.
    """
    own = {_diffusers_name(name.removeprefix(prefix)): s for name, s in shapes.items() if name.startswith(prefix)}
    hidden, hint, patch, _ = own["pos_embed_input.proj.weight"]
    pooled = own["time_text_embed.text_embedder.linear_1.weight"][1]
    depth = len(list(takewhile(bool, (width(own, f"controlnet_blocks.{i}") for i in count()))))
    single = "transformer_blocks.0.attn.qkv.weight" in own
    own_pooled = not single or pooled == base.pooled_dim
    patches = own.get("pos_embed.proj.weight")
    own_patches = patches is not None and not (single and own_pooled)
    table = own.get("pos_embed.pos_embed", (1, base.positions**2, hidden))
    return MMDiTControlConfig(
        transformer=MMDiTConfig(
            in_channels=patches[1] if patches is not None else base.in_channels,
            patch=patch,
            hidden=hidden,
            heads=base.heads if hidden == base.hidden else max(1, hidden // HEAD),
            depth=depth,
            context_dim=own.get("context_embedder.weight", (0, base.context_dim))[1],
            pooled_dim=pooled,
            positions=round(table[-2] ** 0.5),
            qk_norm="transformer_blocks.0.attn.norm_q.weight" in own,
            dual=tuple(i for i in range(depth) if f"transformer_blocks.{i}.attn2.to_q.weight" in own),
            seen=base.seen,
        ),
        width=own["controlnet_blocks.0.weight"][0],
        hint_channels=hint,
        joint="context_embedder.weight" in own,
        own_patches=own_patches,
        positions="pos_embed.pos_embed" in own,
        chained=not single or own_pooled,
        own_pooled=own_pooled,
    )
