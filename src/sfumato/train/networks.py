"""New denoisers with their first weights."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from sfumato.errors import SfumatoError
from sfumato.families import sd1, sd3
from sfumato.nets.mmdit import MMDiT, Modulation
from sfumato.nets.unet import UNet, sinusoidal
from sfumato.spec import CLIPTextConfig, MMDiTConfig, Spec, UNetConfig, VAEConfig

EMBEDDING_STD = 0.02


def new_unet(cfg: UNetConfig, vae: VAEConfig, text: CLIPTextConfig) -> UNet:
    """Returns a U-Net for the latents of `vae` and the tokens of `text`.

    Residual branches and the output begin at zero, as in the original implementation.
    """
    channels = vae.latent_channels
    net = UNet(replace(cfg, in_channels=channels, out_channels=channels, context_dim=text.hidden_size))
    for name, module in net.named_modules():
        if name.endswith(("conv2", "proj_out", "conv_out")):
            _zero(module)
    return net


def new_transformer(cfg: MMDiTConfig) -> MMDiT:
    """Returns a transformer of these sizes; its table of positions is made of sinusoids.

    Every block begins as the identity and the output at zero (adaLN-Zero, Peebles & Xie 2023, section 3.2). Raises
    SfumatoError if `hidden` is not a multiple of 4 and of `heads`.
    """
    if cfg.hidden % cfg.heads or cfg.hidden % 4:
        raise SfumatoError(f"the transformer's hidden is {cfg.hidden}; expected a multiple of 4 and of its heads")
    net = MMDiT(cfg)
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            _zero(module)
            nn.init.xavier_uniform_(module.weight.flatten(1))
    for module in net.time_text_embed.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=EMBEDDING_STD)
    for module in net.modules():
        if isinstance(module, Modulation):
            _zero(module.linear)
    _zero(net.proj_out)
    net.pos_embed.get_buffer("pos_embed").copy_(positions(net.cfg.positions, net.cfg.hidden))
    return net


def text_transformer(cfg: MMDiTConfig, vae: VAEConfig, text: CLIPTextConfig, side: int) -> MMDiT:
    """Returns a transformer for latents of `side` x `side` and for the tokens of `text`.

    Raises SfumatoError as `new_transformer` does, and if `side` is not a multiple of the patch.
    """
    if side % cfg.patch:
        raise SfumatoError(f"the transformer's patch is {cfg.patch}; expected a divisor of the latents' side, {side}")
    pooled = text.hidden_size if text.projection_dim is None else text.projection_dim
    return new_transformer(
        replace(
            cfg,
            in_channels=vae.latent_channels,
            context_dim=text.hidden_size,
            pooled_dim=pooled,
            positions=side // cfg.patch,
        )
    )


def described(network: UNet | MMDiT) -> Spec:
    """Returns the spec of the release that models with such a network are stored as, with this network's sizes."""
    if isinstance(network, MMDiT):
        return replace(sd3.ONE_TEXT, transformer=network.cfg)
    return replace(sd1.SPEC, unet=network.cfg)


def positions(side: int, width: int) -> Tensor:
    """Returns sinusoids of the row and the column of every place of a square, (1, side * side, width)."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return torch.cat([sinusoidal(axis.flatten(), width // 2) for axis in (rows, columns)], 1)[None]


def _zero(module: nn.Module) -> None:
    for parameter in module.parameters():
        nn.init.zeros_(parameter)


def with_fewer_blocks(network: MMDiT, depth: int) -> dict[str, Tensor]:
    """Returns the weights of a transformer of `depth` blocks: the last and the first of the network's, and some of
    those between, evenly spread."""
    kept = np.linspace(network.cfg.depth - 1, 0, depth).round().astype(int).tolist()[::-1]
    places = {f"transformer_blocks.{old}.": f"transformer_blocks.{new}." for new, old in enumerate(kept)}
    state: dict[str, Tensor] = {}
    for name, value in network.state_dict().items():
        block = re.match(r"transformer_blocks\.\d+\.", name)
        if block is None:
            state[name] = value
        elif block[0] in places:
            state[places[block[0]] + name[block.end() :]] = value
    return state
