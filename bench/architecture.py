"""Which network and which prediction suits the default model: four candidates, one after the other, on equal terms.

python bench/architecture.py --data data/emoji --vae runs/vae/export --clip runs/clip/export --out runs/architecture

All see the same latents and captions, in the same order and with the same noise. Each gets `--minutes` of one core: its
steps follow from what a step was measured to take, or are `--steps`. A run that was interrupted goes on. The tables are
those of docs/architecture-choice.md.
"""

from __future__ import annotations

import argparse
import math
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from common import processor_seconds, show
from sfumato.data.emoji import captions
from sfumato.data.emoji.training import EmojiTrainingSet
from sfumato.diffusion.cond import Cond
from sfumato.evaluate.pictures import Looks, on_white
from sfumato.evaluate.precision import captions_of, chances
from sfumato.pipeline.clip_scorer import JUDGE, ClipScorer, load_scorer
from sfumato.spec import MMDiTConfig, NoiseSchedule, UNetConfig
from sfumato.train import checkpoint
from sfumato.train.config import LoopConfig
from sfumato.train.ema import EMA
from sfumato.train.loop import train
from sfumato.train.methods.ldm import RATIOS, LDMTask, LDMTraining
from sfumato.train.objective import Objective
from sfumato.train.precision import arithmetic
from sfumato.train.start import Start, gather

CPU = torch.device("cpu")
# Few concepts, in three styles of one hand, so that little training already tells candidates apart.
SUBGROUPS = ("food-fruit", "heart", "face-smiling")
STYLES = ("3d", "flat", "gradient")
UNET = UNetConfig(channels=(96, 128), blocks=2, depth=(0, 1), middle_depth=1, heads=4, groups=16)
MMDIT = MMDiTConfig(patch=2, hidden=200, heads=5, depth=5, qk_norm=True)
FLOW = {"prediction": "flow", "objective": Objective(times="logit_normal"), "sampler": "euler", "schedule": "discrete"}
CANDIDATES = {
    "U-Net, eps": {"net": UNET, "prediction": "eps"},
    "U-Net, v": {"net": UNET, "prediction": "v"},
    "U-Net, flow": {"net": UNET, **FLOW},
    "MMDiT, flow": {"transformer": MMDIT, **FLOW},
}
TIMED_STEPS = 12
NEVER = 1_000_000


def recipe(data: EmojiTrainingSet, changes: dict[str, object]) -> LDMTraining:
    """What all candidates share, with `changes`."""
    others = {concept.subgroup for concept in data.concepts} - set(SUBGROUPS)
    common = LDMTraining(
        loop=LoopConfig(
            steps=1,
            batch=32,
            lr=2e-3,
            warmup=100,
            lr_schedule="cooldown",
            decay=0.25,
            ema=0.995,
            log_every=100,
            validate_every=NEVER,
            sample_every=NEVER,
        ),
        noise=NoiseSchedule(end=0.02),
        data={
            "background_share": 0.0,
            "styles": {style: int(style in STYLES) for style in captions.STYLES},
            "subgroups": dict.fromkeys(sorted(others), 0),
            "languages": {language: float(language == "en") for language in captions.LANGUAGES},
        },
        held_out=256,
        prompts=("red apple", "grapes", "banana", "watermelon", "red heart", "broken heart", "grinning face", "halo"),
        sheet_endings=tuple(captions.STYLE_WORDS["en"][style][0] for style in STYLES),
    )
    return replace(common, **changes)


def seconds_a_step(cfg: LDMTraining, data: EmojiTrainingSet, start: Start, latents: Path) -> float:
    """Median processor time of a training step."""
    task = LDMTask(cfg, data, start, latents, CPU)
    optimizer = torch.optim.AdamW(task.networks.parameters(), fused=True)
    times = []
    for step in range(TIMED_STEPS):
        began = processor_seconds()
        batch = task.batch(step)
        with arithmetic(cfg.loop, CPU):
            loss, _ = task.loss(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(processor_seconds() - began)
    return statistics.median(times)


def flops(task: LDMTask) -> int:
    """Multiplications and additions of one estimate for one picture."""
    side, text = task.size // task.vae.cfg.factor, task.text.cfg
    x, t = torch.zeros(1, task.vae.cfg.latent_channels, side, side), torch.zeros(1)
    cond = Cond(torch.zeros(1, text.max_length, text.hidden_size), torch.zeros(1, text.hidden_size))
    # With gradients, since the products that inference takes without them are not counted.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        task.network(x, t, cond)
    return counter.get_total_flops()


def figures(
    task: LDMTask, data: EmojiTrainingSet, run: Path, judge: ClipScorer
) -> tuple[list[str], dict[str, list[str]]]:
    """A row of the first table, and of the second one for pictures seen and unseen, from a run's averaged weights."""
    path = checkpoint.find(run)
    if path is None:
        raise SystemExit(f"{run} holds no checkpoint")
    state = checkpoint.load(path, CPU)
    average = EMA(task.networks, 0.5)
    average.load(state["ema"])
    numbers = wanted(data)
    prompts = [captions.prompt(data.concept(int(i)), data.style(int(i)), "en") for i in numbers]
    with average.applied(), torch.no_grad():
        errors = {name: list(rows.values()) for name, rows in task.errors().items()}
        began = processor_seconds()
        drawn = task.draw(prompts, range(len(prompts))).clamp(-1, 1)
        seconds = (processor_seconds() - began) / len(prompts)
    row = [
        f"{sum(p.numel() for p in task.network.parameters()):,}",
        f"{flops(task) / 1e6:.0f}",
        f"{state['step'] * task.cfg.loop.batch:,}",
        *(f"{math.exp(np.log(errors[name]).mean()):.4f}" for name in ("seen", "unseen")),
        precision(data, judge, numbers, torch.cat([judge.encode_image(part) for part in drawn.split(64)])),
        f"{seconds:.2f}",
    ]
    return row, {name: [f"{error:.3g}" for error in rows] for name, rows in errors.items()}


def wanted(data: EmojiTrainingSet) -> np.ndarray:
    """Numbers of the pictures that are trained on, whose prompts are then drawn."""
    train = data.splits["train"]
    return train[[data.style(int(i)) in STYLES and data.concept(int(i)).subgroup in SUBGROUPS for i in train]]


def precision(data: EmojiTrainingSet, judge: ClipScorer, numbers: np.ndarray, vectors: Tensor) -> str:
    """R-precision in percent of pictures that the judge sees as `vectors`, with its standard error."""
    looks = Looks(numbers, vectors, torch.empty(len(numbers), 0))
    hits = chances(data, looks, numbers, captions_of(data, judge, numbers, "en")).mean().item()
    return f"{100 * hits:.1f} ± {100 * (hits * (1 - hits) / len(numbers)) ** 0.5:.1f}"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "vae", "clip", "out"):
        arguments.add_argument(f"--{name}", type=Path, required=True)
    arguments.add_argument("--latents", type=Path, help="folder of cached latents; default: --out")
    arguments.add_argument("--minutes", type=float, default=30, help="processor time of each candidate")
    arguments.add_argument("--steps", type=int, help="instead of --minutes")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    data, start = EmojiTrainingSet(options.data), gather("", options.vae, options.clip)
    latents, judge = options.latents or options.out, load_scorer(JUDGE, CPU)

    rows, levels = [], []
    for name, changes in CANDIDATES.items():
        run, cfg = options.out / name.replace(", ", "-").lower(), recipe(data, changes)
        steps = options.steps or int(options.minutes * 60 / seconds_a_step(cfg, data, start, latents))
        cfg = replace(cfg, loop=replace(cfg.loop, steps=steps))
        task = LDMTask(cfg, data, start, latents, CPU)
        train(task, cfg.loop, run, record=cfg, device=CPU)
        row, by_level = figures(task, data, run, judge)
        rows.append([name, *row])
        levels += [[f"{name}, {kind}", *errors] for kind, errors in by_level.items()]
    numbers = wanted(data)
    with torch.no_grad():
        real = torch.cat([judge.encode_image(x) for x in on_white(data, numbers)])
    rows.append(["real pictures", *[""] * 5, precision(data, judge, numbers, real), ""])
    columns = ["", "parameters", "MFLOP", "samples", "x0 error, seen", "unseen", "R-precision in %", "s a picture"]
    show(f"Equal processor time, {len(numbers)} pictures to learn and to draw", columns, rows)
    show("Squared error of x0 by noise over signal", ["", *(f"{ratio:g}" for ratio in RATIOS)], levels)


if __name__ == "__main__":
    main()
