"""What drawing with less work saves and loses: two tables.

python bench/less_work.py [--model FOLDER] [--pictures 4] [--steps N] [--rounds 3]

The first draws the same prompts and seeds with the embedded model, in one process: time beside the plain drawing, the
mean difference of pixels from 0 to 255 to it, and the cosine of pictures and their words by the perceptor. The second
counts, without computing anything, what one guided step at 512 px (1.x) or 1024 px (XL, 3, 3.5) takes.
"""

from __future__ import annotations

import argparse
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

import sfumato
from common import count_flops, interleaved, show
from sfumato.api import Result
from sfumato.diffusion.cond import Cond
from sfumato.diffusion.step_cache import EveryNth, Memory, Recall
from sfumato.families import FAMILIES
from sfumato.nets.mmdit import MMDiT
from sfumato.nets.token_merging import with_token_merging
from sfumato.nets.unet import UNet
from sfumato.spec import MMDiTConfig, Spec
from unet_step import inputs

PROMPTS = (
    "a red heart, 3D style", "two dogs on a green ground", "a cat to the left of a blue car", "a small yellow house",
    "a purple octopus, flat style", "three apples in a row", "a sad robot", "a rocket above a tree",
)  # fmt: skip
COUNTED = ("sd1", "sdxl", "sd3_medium", "sd35_medium", "sd35_large")
WAYS: dict[str, dict[str, object]] = {
    "plain": {},
    "another seed": {},
    **{f"--step-cache {rule}": {"step_cache": rule} for rule in (
        "first-block:0.1", "first-block:0.2", "first-block:0.3", "teacache:0.2", "teacache:0.4", "deepcache:2",
        "deepcache:3",
    )},
    **{f"--token-merging {share:g}": {"token_merging": share} for share in (0.25, 0.5)},
    "--cfg-interval 25%-100%": {"cfg_interval": "25%-100%"},
    "--cfg-interval 0%-50%": {"cfg_interval": "0%-50%"},
    "half the steps": {},
}  # fmt: skip


def drawn(sd: sfumato.StableDiffusion, name: str, pictures: int, steps: int) -> list[Result]:
    offset = 100 if name == "another seed" else 0
    steps = steps // 2 if name == "half the steps" else steps
    return [
        sd.txt2img(prompt, seed=offset + k, steps=steps, watermark=False, **WAYS[name])
        for k, prompt in enumerate(PROMPTS[:pictures])
    ]


def pixels(results: list[Result]) -> np.ndarray:
    return np.stack([np.asarray(result.images[0].convert("RGB"), dtype=np.float32) for result in results])


def likeness(sd: sfumato.StableDiffusion, seen: np.ndarray) -> float:
    scorer = sd.perceptor
    vectors = scorer.encode_image(torch.from_numpy(seen).permute(0, 3, 1, 2) / 127.5 - 1)
    return float((vectors * scorer.encode_text(PROMPTS[: len(seen)])).sum(1).mean())


def measured(model: str | None, pictures: int, steps: int | None, rounds: int) -> list[list[str]]:
    sd = sfumato.load(model)
    steps = steps or sd.spec.defaults.steps
    seen: dict[str, np.ndarray] = {}

    def draw(name: str) -> None:
        seen[name] = pixels(drawn(sd, name, pictures, steps))

    times = interleaved({name: partial(draw, name) for name in WAYS}, rounds)
    return [
        [
            name,
            f"{times[name].ratio(times['plain'])[1]:.2f}",
            f"{np.abs(seen[name] - seen['plain']).mean():.1f}",
            f"{likeness(sd, seen[name]):.3f}",
        ]
        for name in WAYS
    ]


def counted(spec: Spec) -> list[str]:
    """The share of a step that is left where inner blocks are left out, and where half the places are merged."""
    config = spec.backbone
    side = (512 if spec.family.startswith("sd1") else 1024) // spec.vae.factor

    def step(merged: float = 0.0, cached: bool = False) -> Tensor:
        network: nn.Module = MMDiT(config) if isinstance(config, MMDiTConfig) else UNet(config)
        x, t, cond = inputs(spec, config, side)
        if merged:
            network = with_token_merging(network, merged)
        if not cached:
            return network(x, t, cond)
        return network(x, t, cond, recall=remembering(network, x, t, cond))

    whole = count_flops(step)
    again = count_flops(lambda: step(cached=True)) - whole  # the first call runs all
    return [spec.family, f"{whole / 1e12:.2f}", f"{again / whole:.2f}", f"{count_flops(lambda: step(0.5)) / whole:.2f}"]


def remembering(network: nn.Module, x: Tensor, t: Tensor, cond: Cond) -> Recall:
    recall = Recall([Memory(EveryNth(1000)) for _ in x])
    network(x, t, cond, recall=recall)
    return recall


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", help="another model than the embedded one")
    arguments.add_argument("--pictures", type=int, default=4, help=f"at most {len(PROMPTS)}")
    arguments.add_argument("--steps", type=int, help="else the model's own")
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    rows = measured(options.model, options.pictures, options.steps, options.rounds)
    show("The same pictures with less work", ["", "processor time", "difference", "likeness to the words"], rows)
    specs = [one.spec for one in FAMILIES if one.spec.family in COUNTED]
    show(
        "A guided step, as counted", ["", "TFLOP", "inner blocks left out", "half of the places merged"],
        [counted(spec) for spec in specs],
    )  # fmt: skip


if __name__ == "__main__":
    main()
