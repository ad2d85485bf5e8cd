"""The KL autoencoder in the original layout (latent-diffusion's `model.py`): names and sizes, for every release."""

from __future__ import annotations

import re
from collections.abc import Iterable

from sfumato.checkpoint.keymap import CONV1X1, IDENTITY, Rule, Shapes, width
from sfumato.spec import VAEConfig

GROUPS = 32  # of every norm in this layout

ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
# Folder files written before diffusers 0.16 name the attention otherwise.
OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def old_attention(prefix: str) -> tuple[tuple[str, str], ...]:
    """Aliases for the names of older folders' files."""
    return tuple(
        (rf"({prefix}.*\.attentions\.0\.){old}\.(weight|bias)", rf"\1{new}.\2") for old, new in OLD_ATTENTION.items()
    )


def rules(cfg: VAEConfig, names: Iterable[str], prefix: str) -> list[Rule]:
    """The map of all parameters `names` of our autoencoder; `prefix` stands before theirs."""
    last = len(cfg.channels) - 1

    def theirs(name: str) -> str:
        name = re.sub(r"down_blocks\.(\d+)\.resnets", r"down.\1.block", name)
        name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
        # They count the levels of the decoder from the finest.
        name = re.sub(r"up_blocks\.(\d+)\.resnets", lambda m: f"up.{last - int(m[1])}.block", name)
        name = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"up.{last - int(m[1])}.upsample", name)
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
        name = re.sub(r"mid_block\.attentions\.0\.(.+)\.", lambda m: f"mid.attn_1.{ATTENTION[m[1]]}.", name)
        return prefix + name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")

    projection = re.compile(r".*\.attentions\.0\.to_.*\.weight")
    return [Rule((name,), (theirs(name),), CONV1X1 if projection.fullmatch(name) else IDENTITY) for name in names]


def sizes(shapes: Shapes, prefix: str, block: str = "encoder.down.{}.block.{}.conv1") -> VAEConfig:
    """The sizes of an autoencoder from the shapes of its tensors. Raises LookupError when they are not those of one.

    `block` names the first convolution of a level's block.
    """
    own = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
    channels: list[int] = []
    while found := width(own, block.format(len(channels), 0)):
        channels.append(found)
    blocks = sum(width(own, block.format(0, i)) > 0 for i in range(len(own)))
    if not channels and "decoder.conv_out.weight" in own:
        raise LookupError("the VAE has a decoder and no encoder")
    if not channels or any(found % GROUPS for found in channels):
        raise LookupError(f"the VAE's channels are not multiples of {GROUPS}")
    return VAEConfig(
        in_channels=width(own, "decoder.conv_out"),
        latent_channels=width(own, "post_quant_conv") or own["decoder.conv_in.weight"][1],
        channels=tuple(channels),
        blocks=blocks,
        quant_convs="quant_conv.weight" in own,
    )


def folder_sizes(shapes: Shapes, prefix: str) -> VAEConfig:
    """The same of an autoencoder under the names of a diffusers folder."""
    return sizes(shapes, prefix, "encoder.down_blocks.{}.resnets.{}.conv1")
