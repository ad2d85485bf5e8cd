"""Which network and which prediction suits the default model: four candidates, one after the other, on equal terms.

python bench/architecture.py --data data/emoji --vae runs/vae/export --clip runs/clip/export --out runs/architecture

Each candidate gets `--minutes` of processor time of one core: its steps follow from what one was measured to take. A
run that was interrupted goes on. The table is that of docs/architecture-choice.md.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from common import processor_seconds, show
from sfumato.data import captions
from sfumato.data.dataset import EmojiData
from sfumato.diffusion.cond import Cond
from sfumato.evaluate.judge import Judge, load_judge
from sfumato.evaluate.pictures import on_white
from sfumato.evaluate.precision import caption_lists, first_places, share
from sfumato.files import atomic_write
from sfumato.spec import MMDiTConfig, Schedule, UNetConfig
from sfumato.train import checkpoint
from sfumato.train.config import LoopConfig
from sfumato.train.ema import EMA
from sfumato.train.ldm import LDMTask, LDMTraining
from sfumato.train.loop import arithmetic, train
from sfumato.train.start import Start, gather

CPU = torch.device("cpu")
SUBGROUPS = ("food-fruit", "heart", "face-smiling")
STYLES = ("3d", "flat", "gradient")
UNET = UNetConfig(channels=(96, 128), blocks=2, depth=(0, 1), middle_depth=1, heads=4, groups=16)
MMDIT = MMDiTConfig(patch=2, hidden=200, heads=5, depth=5, qk_norm=True)
FLOW = {"prediction": "flow", "times": "logit_normal", "sampler": "euler", "schedule": "discrete"}
CANDIDATES = {
    "U-Net, eps": {"net": UNET, "prediction": "eps"},
    "U-Net, v": {"net": UNET, "prediction": "v"},
    "U-Net, flow": {"net": UNET, **FLOW},
    "MMDiT, flow": {"transformer": MMDIT, **FLOW},
}
TIMED_STEPS = 12


def recipe(data: EmojiData, changes: dict[str, object]) -> LDMTraining:
    """What all share, but for `changes`: few concepts, so that little training already tells candidates apart."""
    others = {concept.subgroup for concept in data.concepts} - set(SUBGROUPS)
    common = LDMTraining(
        loop=LoopConfig(
            steps=1,
            batch=32,
            lr=2e-3,
            warmup=100,
            schedule="cooldown",
            decay=0.25,
            ema=0.995,
            log_every=100,
            validate_every=1_000_000,
            sample_every=1_000_000,
        ),
        noise=Schedule(end=0.02),
        background_share=0.0,
        styles={style: int(style in STYLES) for style in captions.STYLES},
        subgroups=dict.fromkeys(sorted(others), 0),
        languages={language: float(language == "en") for language in captions.LANGUAGES},
        held_out=256,
        prompts=("red apple", "grapes", "banana", "watermelon", "red heart", "broken heart", "grinning face", "halo"),
        sheet_styles=STYLES,
    )
    return replace(common, **changes)


def seconds_a_step(cfg: LDMTraining, data: EmojiData, start: Start, latents: Path) -> float:
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
    side, text = task.data.size // task.vae.cfg.factor, task.text.cfg
    x, t = torch.zeros(1, task.vae.cfg.latent_channels, side, side), torch.zeros(1)
    cond = Cond(torch.zeros(1, text.max_length, text.hidden_size), torch.zeros(1, text.hidden_size))
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        task.network(x, t, cond)
    return counter.get_total_flops()


def figures(task: LDMTask, run: Path, judge: Judge) -> list[str]:
    """What the table says of the averaged weights of a run."""
    path = checkpoint.find(run)
    if path is None:
        raise SystemExit(f"{run} holds no checkpoint")
    state = checkpoint.load(path, CPU)
    average = EMA(task.networks, 0)
    average.load(state["ema"])
    with average.applied(), torch.no_grad():
        errors = task.validate()
        numbers = wanted(task.data)
        prompts = [captions.prompt(task.data.concept(int(i)), task.data.style(int(i)), "en") for i in numbers]
        began = processor_seconds()
        drawn = task.draw(prompts, range(len(prompts))).clamp(-1, 1)
        seconds = (processor_seconds() - began) / len(prompts)
    vectors = torch.cat([judge.pictures(part) for part in drawn.split(64)])
    return [
        f"{sum(p.numel() for p in task.network.parameters()):,}",
        f"{flops(task) / 1e6:.0f}",
        f"{state['step'] * task.cfg.loop.batch:,}",
        f"{errors['x0_seen']:.4f}",
        f"{errors['x0_unseen']:.4f}",
        precision(task.data, judge, numbers, vectors),
        f"{seconds:.2f}",
    ]


def wanted(data: EmojiData) -> np.ndarray:
    """Numbers of the pictures that are trained on, whose prompts are then drawn."""
    train = data.splits["train"]
    return train[[data.style(int(i)) in STYLES and data.concept(int(i)).subgroup in SUBGROUPS for i in train]]


def precision(data: EmojiData, judge: Judge, numbers: np.ndarray, vectors: Tensor) -> str:
    """R-precision in percent of pictures that the judge sees as `vectors`, with its standard error."""
    hits = share(first_places(vectors, caption_lists(data, judge, 0, numbers, "en")).diagonal()) or 0.0
    return f"{100 * hits:.1f} ± {100 * (hits * (1 - hits) / len(numbers)) ** 0.5:.1f}"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "vae", "clip", "out"):
        arguments.add_argument(f"--{name}", type=Path, required=True)
    arguments.add_argument("--latents", type=Path, help="folder of cached latents; default: --out")
    arguments.add_argument("--minutes", type=float, default=30, help="processor time of each candidate")
    arguments.add_argument("--only", choices=CANDIDATES, action="append", help="train these; may be repeated")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    data, start = EmojiData(options.data), gather("", options.vae, options.clip)
    latents = options.latents or options.out
    judge = load_judge(None, data.size, CPU)

    rows = []
    for name in options.only or CANDIDATES:
        run, cfg = options.out / name.replace(", ", "-").lower(), recipe(data, CANDIDATES[name])
        plan = run / "steps"
        if not plan.exists():
            steps = int(options.minutes * 60 / seconds_a_step(cfg, data, start, latents))
            with atomic_write(plan) as file:
                file.write(str(steps).encode())
        cfg = replace(cfg, loop=replace(cfg.loop, steps=int(plan.read_text())))
        task = LDMTask(cfg, data, start, latents, CPU)
        train(task, cfg.loop, run, record=cfg, device=CPU)
        rows.append([name, *figures(task, run, judge)])
    numbers = wanted(data)
    real = torch.cat([judge.pictures(x) for x in on_white(data, numbers)])
    rows.append(["real pictures", *[""] * 5, precision(data, judge, numbers, real), ""])
    columns = ["", "parameters", "MFLOP", "samples seen", "x0 error, seen", "unseen", "R-precision", "s/picture"]
    show(f"{options.minutes:g} minutes of one core each", columns, rows)


if __name__ == "__main__":
    main()
