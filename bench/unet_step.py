"""One guidance step (two rows) of the full-size 1.x U-Net in float32: ours against diffusers', on the same weights.

python bench/unet_step.py [--size 64] [--rounds 5] [--threads 1]
"""

from __future__ import annotations

import argparse
import statistics

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from common import interleaved, show
from sfumato.diffusion.cond import Cond
from sfumato.nets.layers import linear
from sfumato.nets.unet import UNet
from sfumato.spec import UNetConfig
from sfumato.weights.configs import unet_to

TOKENS = 77
SIDE = 2048  # of the matrices whose product shows what the processor can do


def random_weights(network: nn.Module) -> dict[str, Tensor]:
    """Weights that keep signals at their size, for a network on the meta device."""
    generator = torch.Generator().manual_seed(0)

    def weight(name: str, like: Tensor) -> Tensor:
        if like.ndim == 1:
            return torch.ones(like.shape) if name.endswith("weight") else torch.zeros(like.shape)
        return torch.randn(like.shape, generator=generator).div_(like[0].numel() ** 0.5)

    return {name: weight(name, like) for name, like in network.state_dict().items()}


def count_flops(cfg: UNetConfig, size: int) -> int:
    """Multiplications and additions of one step, counted on tensors without content."""
    with torch.device("meta"), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        UNet(cfg)(torch.empty(2, 4, size, size), torch.empty(2), Cond(torch.empty(2, TOKENS, cfg.context_dim)))
    return counter.get_total_flops()


@torch.inference_mode()
def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--size", type=int, default=32, help="side of the latents (64: pictures of 512 pixels)")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)

    cfg = UNetConfig()
    with torch.device("meta"):
        ours, theirs = UNet(cfg), UNet2DConditionModel.from_config(unet_to(cfg, options.size))
    weights = random_weights(ours)
    for network in (ours, theirs):
        network.load_state_dict(weights, strict=True, assign=True)
        network.eval().requires_grad_(False)

    x, t = torch.randn(2, cfg.in_channels, options.size, options.size), torch.full((2,), 500.0)
    tokens, matrix = torch.randn(2, TOKENS, cfg.context_dim), torch.randn(SIDE, SIDE)
    rivals = {
        "sfumato": lambda: ours(x, t, Cond(tokens)),
        "diffusers": lambda: theirs(x, t, tokens).sample,
        "matrix product": lambda: linear(matrix, matrix),
    }
    results = [rivals[name]() for name in ("sfumato", "diffusers")]
    times = interleaved(rivals, options.rounds)

    flops = count_flops(cfg, options.size)
    products = flops / (2 * SIDE**3)  # in the time of so many matrix products the step could be done
    rows = []
    for name in ("sfumato", "diffusers"):
        wall, cpu = times[name].ratio(times["diffusers"])
        floor = times[name].ratio(times["matrix product"])[1] / products
        rows.append([name, f"{statistics.median(times[name].wall):.2f}", f"{wall:.2f}", f"{cpu:.2f}", f"{floor:.2f}"])
    title = f"U-Net step, 2 x {options.size}x{options.size} latents, float32, {options.threads} threads"
    show(title, ["", "seconds", "ratio", "ratio, processor time", "processor time over floor"], rows)
    rate = 2 * SIDE**3 / statistics.median(times["matrix product"].cpu)
    difference = (results[0] - results[1]).abs().max() / results[1].abs().max()
    print(f"{flops / 1e9:.1f} GFLOP a step; floor: a matrix product, {rate / 1e9:.0f} GFLOP/s of a core")
    print(f"largest difference of the outputs {difference:.1e} of the largest output")


if __name__ == "__main__":
    main()
