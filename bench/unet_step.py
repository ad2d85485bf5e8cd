"""One guidance step (two rows) of every family's network at full width: ours against diffusers' in float32.

python bench/unet_step.py [FAMILY ...] [--side 32] [--depth 2] [--rounds 5] [--threads 1] [--dtype bfloat16]

`--dtype` is the precision of ours; the column of names then says how far it is from float32, relative to its norm.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch
from diffusers import SD3Transformer2DModel, UNet2DConditionModel
from torch import Tensor, nn

from common import COLUMNS, SAME, count_flops, race, show, twins
from sfumato.checkpoint.diffusers_config import mmdit_to, unet_to
from sfumato.diffusion.cond import Cond
from sfumato.families import FAMILIES
from sfumato.nets.int8 import use_int8
from sfumato.nets.mmdit import MMDiT
from sfumato.nets.unet import UNet
from sfumato.spec import MMDiTConfig, Spec, UNetConfig

ROUNDED = 0.2  # how far one number in half precision may be off, of the largest
WINDOW = 77  # tokens of a prompt; the transformers read T5's beside CLIP's


def shallow(config: UNetConfig | MMDiTConfig, depth: int) -> UNetConfig | MMDiTConfig:
    """The same network with at most `depth` transformer layers in a row: all that differ, in little memory."""
    if isinstance(config, MMDiTConfig):
        return replace(config, depth=min(config.depth, depth), dual=tuple(i for i in config.dual if i < depth))
    layers = tuple(min(one, depth) for one in config.depth)
    return replace(config, depth=layers, middle_depth=min(config.middle_depth, depth))


def inputs(spec: Spec, config: UNetConfig | MMDiTConfig, side: int) -> tuple[Tensor, Tensor, Cond]:
    """Latents (2, C, side, side), times and conditioning of the shapes that the family has."""
    x, t = torch.randn(2, config.in_channels, side, side), torch.full((2,), 500.0)
    if isinstance(config, MMDiTConfig):
        return x, t, Cond(torch.randn(2, 2 * WINDOW, config.context_dim), torch.randn(2, config.pooled_dim))
    tokens = torch.randn(2, WINDOW, config.context_dim)
    if config.classes is not None:
        return x, t, Cond(tokens, ids=torch.full((2, 1), 20.0))
    if config.vector_dim is None:
        return x, t, Cond(tokens)
    numbers = 5 if "aesthetic_score" in spec.micro_conditioning else 6
    return x, t, Cond(tokens, torch.randn(2, config.vector_dim - 256 * numbers), torch.randn(2, numbers))


def rival(config: UNetConfig | MMDiTConfig, side: int) -> nn.Module:
    if isinstance(config, MMDiTConfig):
        return SD3Transformer2DModel.from_config(mmdit_to(config, side))
    return UNet2DConditionModel.from_config(unet_to(config, side))


def ask(network: nn.Module, x: Tensor, t: Tensor, cond: Cond) -> Tensor:
    """diffusers' network by diffusers' names."""
    if isinstance(network, SD3Transformer2DModel):
        return network(x, cond.tokens, cond.pooled, t).sample
    if cond.pooled is not None:
        return network(x, t, cond.tokens, added_cond_kwargs={"text_embeds": cond.pooled, "time_ids": cond.ids}).sample
    classes = None if cond.ids is None else cond.ids[:, 0].long()
    return network(x, t, cond.tokens, class_labels=classes).sample


def row(spec: Spec, side: int, depth: int, rounds: int, dtype: torch.dtype, int8: bool) -> list[str]:
    config = shallow(spec.backbone, depth)

    def built() -> nn.Module:
        return MMDiT(config) if isinstance(config, MMDiTConfig) else UNet(config)

    flops = count_flops(lambda: built()(*inputs(spec, config, side)))
    with torch.device("meta"):
        ours, theirs = built(), rival(config, side)
    twins(ours, theirs)
    x, t, cond = inputs(spec, config, side)
    ours.to(dtype)
    if int8:
        use_int8(ours)

    def step() -> Tensor:
        return ours(x.to(dtype), t, cond.to(x.device, dtype)).float()

    name, exact = spec.family, dtype == torch.float32 and not int8
    if not exact:
        truth = ask(theirs, x, t, cond)
        name += f" ({(step() - truth).norm() / truth.norm():.2%})"
    return race(name, step, lambda: ask(theirs, x, t, cond), flops, rounds, SAME if exact else ROUNDED)


@torch.inference_mode()
def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("families", nargs="*", default=[family.name for family in FAMILIES])
    arguments.add_argument("--side", type=int, default=32, help="of the latents (64: pictures of 512 pixels)")
    arguments.add_argument("--depth", type=int, default=2, help="at most so many transformer layers in a row")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments.add_argument("--dtype", choices=("float32", "bfloat16", "int8"), default="float32", help="of ours")
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    specs = [family.spec for family in FAMILIES if family.name in options.families]
    int8 = options.dtype == "int8"  # between the products all else is in bfloat16
    dtype = torch.bfloat16 if int8 else getattr(torch, options.dtype)
    rows = [row(spec, options.side, options.depth, options.rounds, dtype, int8) for spec in specs]
    title = f"step of two rows, {options.side}x{options.side} latents, {options.dtype}, {options.threads} threads"
    show(f"{title}, at most {options.depth} layers in a row", COLUMNS, rows)


if __name__ == "__main__":
    main()
