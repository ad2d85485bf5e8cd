"""How the work of a picture grows: with its sides, the number of pictures, the words of the prompt.

python bench/growth.py [FAMILY]

Multiplications and additions are counted on tensors without content, so the table is the same on every machine. LoRAs
that are merged into the weights (as usual) and further steps need no row: the first add nothing to a step, the second
are so many times a step.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch

from common import count_flops, show
from sfumato.diffusion.cond import Cond
from sfumato.families import FAMILIES
from sfumato.nets.unet import UNet
from sfumato.nets.vae import VAE
from sfumato.spec import Spec, UNetConfig
from unet_step import WINDOW, inputs

SIDES = (256, 512, 1024, 2048, 4096)  # of pictures, in pixels
PER_LATENT = 8  # pixels a side
TERA = 1e12


def step(spec: Spec, config: UNetConfig, side: int, pictures: int = 1, windows: int = 1) -> float:
    """TFLOP of one step with guidance, two rows for each picture of `side` pixels."""

    def once() -> object:
        x, t, cond = inputs(spec, config, side // PER_LATENT)
        cond = Cond.cat([replace(cond, tokens=cond.tokens.repeat(1, windows, 1))] * pictures)
        return UNet(config)(x.repeat(pictures, 1, 1, 1), t.repeat(pictures), cond)

    return count_flops(once) / TERA


def decoding(spec: Spec, side: int) -> float:
    """TFLOP of decoding one picture."""
    latents = side // PER_LATENT
    return count_flops(lambda: VAE(spec.vae).decode(torch.randn(1, spec.vae.latent_channels, latents, latents))) / TERA


@torch.inference_mode()
def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("family", nargs="?", default="sd1", choices=[family.name for family in FAMILIES])
    family = next(one for one in FAMILIES if one.name == arguments.parse_args().family)
    spec, config = family.spec, family.spec.backbone
    if not isinstance(config, UNetConfig):
        arguments.error(f"{family.name} has no U-Net; choose a family that has one, such as sd1")
    first = step(spec, config, SIDES[0]), decoding(spec, SIDES[0])
    rows = []
    for side in SIDES:
        each = step(spec, config, side), decoding(spec, side)
        growth = [f"{now / before:.1f}" for now, before in zip(each, first, strict=True)]
        area = f"{(side / SIDES[0]) ** 2:.0f}"
        rows.append([f"{side}x{side}", area, f"{each[0]:.2f}", growth[0], f"{each[1]:.2f}", growth[1]])
    show(f"{spec.title}, sides", ["pixels", "area", "TFLOP a step", "growth", "decoding", "growth"], rows)
    one = step(spec, config, 512)
    rows = [
        [str(n), *(f"{step(spec, config, 512, **{what: n}) / one:.2f}" for what in ("pictures", "windows"))]
        for n in (1, 2, 4, 8)
    ]
    show(f"{spec.title}, a step at 512x512 of so many", ["", "pictures", f"windows of {WINDOW} tokens"], rows)


if __name__ == "__main__":
    main()
