"""What fewer bits lose on the embedded model: bytes of the network that draws, and how far its pictures move.

    python bench/quantise.py bfloat16 int8-products    # precisions of `--dtype` alone

    python bench/quantise.py [KIND ...] [--folder TEMPORARY]

Every kind of `sfumato convert --quantise` is written, loaded again and drawn with: the same seeds and prompts as the
model itself, at its own size. The distance is the mean difference of a channel in 8-bit steps. Precisions of `--dtype`
are drawn with as well; "int8-products" is `--dtype int8`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

import sfumato
from common import show
from sfumato.api import StableDiffusion
from sfumato.images.tensors import to_pixels
from sfumato.loading.conversion.quantised import KINDS
from sfumato.loading.convert import convert

PROMPTS = ("a red heart", "a rocket in the night sky", "a cat beside a house", "three apples on a table")
PRECISIONS = {"bfloat16": "bfloat16", "int8-products": "int8"}
HALF = 127.5  # 8-bit steps of a pixel in [-1, 1]


def pictures(model: StableDiffusion) -> torch.Tensor:
    drawn = [model.txt2img(prompt, seed=seed).images[0] for seed, prompt in enumerate(PROMPTS)]
    return torch.cat([to_pixels(image) for image in drawn])


def away(model: StableDiffusion, before: torch.Tensor) -> float:
    return (pictures(model) - before).abs().mean().item() * HALF


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("kinds", nargs="*", default=[*KINDS, *PRECISIONS])
    arguments.add_argument("--folder", help="where the models are written, and removed")
    options = arguments.parse_args()
    model = sfumato.load()
    before, rows = pictures(model), []
    for kind in options.kinds:
        if kind in PRECISIONS:
            distance = away(sfumato.load(dtype=PRECISIONS[kind]), before)
            rows.append([kind, "", f"{distance:.2f}", "", ""])
            continue
        with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
            out = Path(temporary, kind)
            proof = convert(model.path, out, "diffusers", quantise=kind)
            lost = [row.error for row in proof.rows if row.error]
            size = sum(file.stat().st_size for file in (out / "transformer").glob("*.safetensors"))
            distance = away(sfumato.load(out), before)
            rows.append([kind, f"{size / 1e6:.2f}", f"{distance:.2f}", str(len(lost)), f"{max(lost):.1%}"])
    columns = ["kind", "MB", "distance of pictures", "weights", "largest loss of a weight's largest value"]
    show("The embedded model in fewer bits", columns, rows)


if __name__ == "__main__":
    main()
