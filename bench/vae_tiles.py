"""Peak memory of the autoencoder on a large picture, in tiles, against a small one that it takes whole.

python bench/vae_tiles.py [--channels 128,256,512,512 | --embedded] [--small 1024] [--large 4096] [--side 768] [--brief]

Every figure is that of a process of its own. Weights are random but for --embedded; --brief goes through the tiles
twice instead of until their statistics settle, which takes a third of the time and the same memory.
"""

from __future__ import annotations

import argparse
import math
import resource
import subprocess
import sys
import time

import torch

import sfumato
from common import random_weights, show
from sfumato.nets import tiled_vae
from sfumato.nets.vae import VAE
from sfumato.pipeline.latents import TILED_ABOVE, decode, encode
from sfumato.spec import VAEConfig

COLUMNS = ["", "small MB", "large MB", "ratio", "small, process MB", "large, process MB", "ratio", "large, seconds"]


def network(options: argparse.Namespace) -> VAE:
    if options.embedded:
        return sfumato.load(device="cpu").vae
    channels = tuple(map(int, options.channels.split(",")))
    with torch.device("meta"):
        vae = VAE(VAEConfig(channels=channels, groups=math.gcd(32, *channels)))
    vae.load_state_dict(random_weights(vae), assign=True)
    return vae.eval().requires_grad_(False)


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(options: argparse.Namespace) -> None:
    """Print bytes beyond the loaded network's, bytes of the whole process, and seconds."""
    torch.set_num_threads(options.threads)
    tiled_vae.SIDE = options.side
    if options.brief:
        tiled_vae.TOLERANCE = sys.float_info.max
    vae, side = network(options), options.measure
    vae.tiled = side > options.small or side**2 > TILED_ABOVE
    before, start = peak(), time.perf_counter()
    if options.direction == "encode":
        encode(vae, torch.rand(1, 3, side, side).mul_(2).sub_(1))
    else:
        decode(vae, torch.randn(1, vae.cfg.latent_channels, side // vae.cfg.factor, side // vae.cfg.factor))
    print(peak() - before, peak(), time.perf_counter() - start)


def measured(direction: str, side: int) -> list[float]:
    """The figures of `measure`, by the arguments of this process and these."""
    command = [sys.executable, *sys.argv, "--measure", str(side), "--direction", direction]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--channels", default="128,256,512,512")
    arguments.add_argument("--embedded", action="store_true")
    arguments.add_argument("--small", type=int, default=1024)
    arguments.add_argument("--large", type=int, default=4096)
    arguments.add_argument("--side", type=int, default=tiled_vae.SIDE, help="of a tile")
    arguments.add_argument("--brief", action="store_true")
    arguments.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    arguments.add_argument("--direction", default="decode", help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.measure is not None:
        measure(options)
        return
    rows = []
    for direction in ("encode", "decode"):
        small, large = (measured(direction, side) for side in (options.small, options.large))
        megabytes = [f"{one / 1e6:.0f}" for one in (small[0], large[0], small[1], large[1])]
        ratios = [f"{large[i] / small[i]:.2f}" for i in (0, 1)]
        rows.append([direction, *megabytes[:2], ratios[0], *megabytes[2:], ratios[1], f"{large[2]:.0f}"])
    which = "embedded" if options.embedded else options.channels
    show(f"autoencoder {which}, {options.small} and {options.large} pixels a side", COLUMNS, rows)


if __name__ == "__main__":
    main()
