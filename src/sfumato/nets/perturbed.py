"""Networks that are degraded on purpose, on the same weights: guidance leads away from their estimates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from torch import nn

from sfumato.nets import mmdit, unet
from sfumato.nets.mmdit import MMDiT
from sfumato.nets.shared_weights import with_shared_weights

Net = TypeVar("Net", bound=nn.Module)


def without_layers(network: MMDiT, layers: Sequence[int]) -> MMDiT:
    """The transformer without some of its blocks."""
    view = with_shared_weights(network)
    view.transformer_blocks = nn.ModuleList(block for i, block in enumerate(view.transformer_blocks) if i not in layers)
    return view


def without_self_attention(network: Net, layers: Sequence[str] = ()) -> Net:
    """The network whose self-attentions in `layers` are the identity: every place of a picture sees only itself.

    Perturbed attention (Ahn et al. 2024). Layers are names of modules, such as "mid_block", "up_blocks.0" or
    "transformer_blocks.12", and stand for all within; none means the middle. A joint attention still lets the picture
    see the text and the text see everything. Raises ValueError for a layer without self-attention.
    """
    layers = tuple(layers) or middle_of(network)
    attentions = self_attentions(view := with_shared_weights(network))
    for layer in layers:
        within = [attention for name, attention in attentions.items() if f"{name}.".startswith(f"{layer}.")]
        if not within:
            raise ValueError(f"the network has no self-attention in {layer!r}; it has them in {', '.join(attentions)}")
        for attention in within:
            attention.identity = True
    return view


def middle_of(network: nn.Module) -> tuple[str, ...]:
    """The layer that perturbed-attention guidance is best left to: the U-Net's middle, a transformer's middle block.

    For a distilled U-Net, whose middle has no attention, the coarsest level of the way down that has some.
    """
    if isinstance(network, MMDiT):
        return (f"transformer_blocks.{network.cfg.depth // 2}",)
    if isinstance(network, unet.UNet) and network.cfg.middle_blocks < 2:
        return (f"down_blocks.{max(i for i, depth in enumerate(network.cfg.depth) if depth)}",)
    return ("mid_block",)


def self_attentions(network: nn.Module) -> dict[str, unet.Attention | mmdit.Attention]:
    """Every attention of a picture to itself, by the name of its module."""
    crossed = {id(layer.attn2) for layer in network.modules() if isinstance(layer, unet.TransformerLayer)}
    crossed |= {id(x.attn1) for x in network.modules() if isinstance(x, unet.TransformerLayer) and x.cross_only}
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, unet.Attention | mmdit.Attention) and id(module) not in crossed
    }
