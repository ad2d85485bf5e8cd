"""A guidance step (two rows) of the 1.5 U-Net steered by a ControlNet, ours beside diffusers', on the same weights.

python bench/controlnet.py [--side 32] [--rounds 5] [--threads 1]

The hint goes through its own convolutions once a picture, here and in the original code; in diffusers at every step.
The table has a step of the U-Net alone as well, so that the price of the ControlNet shows.
"""

from __future__ import annotations

import argparse

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor

from common import COLUMNS, count_flops, race, show, twins
from sfumato.checkpoint.diffusers_config import unet_to
from sfumato.diffusion.cond import Cond
from sfumato.families import family
from sfumato.nets.controlled import Controlled
from sfumato.nets.controlnet import ControlNet
from sfumato.nets.unet import UNet
from sfumato.spec import ControlNetConfig

CFG = family("sd1").spec.unet
PIXELS = 8  # of a hint along a side, for each of the latents


def inputs(side: int) -> tuple[Tensor, Tensor, Cond, Tensor]:
    """Latents, times and text of two rows, and a hint of one."""
    tokens = torch.randn(2, 77, CFG.context_dim)
    return (
        torch.randn(2, 4, side, side),
        torch.full((2,), 500.0),
        Cond(tokens),
        torch.rand(1, 3, *(2 * [PIXELS * side])),
    )


def steered(cond: Cond, control: ControlNet, hint: Tensor) -> Cond:
    """The conditioning with a hint that counts fully in both rows."""
    prepared = control.prepare(hint)
    rows = tuple(one.expand(2, *one.shape[1:]) for one in prepared)
    return Cond(cond.tokens, hints=rows, hint_weights=(torch.ones(2, control.residuals),))


def control_alone(side: int) -> None:
    """What a ControlNet does at every step."""
    x, t, cond, hint = inputs(side)
    control = ControlNet(ControlNetConfig(CFG))
    control(x, t, cond, tuple(one.expand(2, *one.shape[1:]) for one in control.prepare(hint)))


@torch.inference_mode()
def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--side", type=int, default=32, help="of the latents (64: pictures of 512 pixels)")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    with torch.device("meta"):
        ours, theirs = UNet(CFG), UNet2DConditionModel.from_config(unet_to(CFG, options.side))
        control, other = (
            ControlNet(ControlNetConfig(CFG)),
            ControlNetModel.from_unet(theirs, load_weights_from_unet=False),
        )
    twins(ours, theirs)
    twins(control, other)
    x, t, cond, hint = inputs(options.side)
    both, with_hint = Controlled(ours, [control]), steered(cond, control, hint)

    def step() -> Tensor:
        return both(x, t, with_hint)

    def their_step() -> Tensor:
        down, middle = other(x, t, cond.tokens, hint.expand(2, -1, -1, -1), return_dict=False)
        more = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        return theirs(x, t, cond.tokens, **more).sample

    alone = count_flops(lambda: UNet(CFG)(*inputs(options.side)[:3]))
    beside = count_flops(lambda: control_alone(options.side))
    plain = race("U-Net", lambda: ours(x, t, cond), lambda: theirs(x, t, cond.tokens).sample, alone, options.rounds)
    rows = [plain, race("with a ControlNet", step, their_step, alone + beside, options.rounds)]
    title = f"step of two rows, {options.side}x{options.side} latents, float32, {options.threads} threads"
    show(title, COLUMNS, rows)


if __name__ == "__main__":
    main()
