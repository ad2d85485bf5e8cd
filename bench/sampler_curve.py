"""How near samplers come to where 1000 steps lead, by calls of the embedded model's network; a table and a chart.

python bench/sampler_curve.py [--figures FIGURES.json] [--chart docs/sampler-curve.webp] [--model FOLDER]

Every sampler starts from the same noise, with the model's own guidance and without noise on the way. The distance is
the root of the mean square difference of latents, as a share of their own root mean square. What
FIGURES.json holds is not measured again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

import sfumato
from common import show
from sfumato.diffusion.driver import Failed, Finished, Job, drive
from sfumato.diffusion.guidance import Estimate, Guide, cfg, network_guide
from sfumato.diffusion.rng import NoiseStream
from sfumato.diffusion.sample import SAMPLERS
from sfumato.diffusion.sigma_schedules import SIGMA_SCHEDULES, sigma_list
from sfumato.images.charts import Axis, line_chart

PROMPTS, SEEDS = ("a red heart, 3D style", "dog face, flat style"), (1, 2)
CALLS = (6, 10, 16, 24, 40)
REFERENCE, REFERENCE_SCHEDULE, REFERENCE_STEPS = "dpmpp_2m", "karras", 1000
# Euler's steps are also those of DDIM, Euler a and TCD without noise, and so on; DPM adaptive chooses its own number.
DETERMINISTIC = (
    "euler", "heun", "dpm_2", "lms", "plms", "ipndm", "deis", "dpm_fast", "dpm_solver", "dpmpp_2s", "dpmpp_2m",
    "dpmpp_3m", "unipc", "unipc_bh2", "res_multistep", "er_sde", "sa_solver",
)  # fmt: skip
WITHOUT_NOISE = {"er_sde": {"variant": "ode"}, "sa_solver": {"eta": 0.0}}
SPACED, SPACED_CALLS = "dpmpp_2m", (10, 20)  # schedules are compared with this sampler
DRAWN = ("euler", "heun", "lms", "deis", "dpmpp_2m", "dpmpp_3m", "unipc_bh2", "sa_solver")


@dataclass
class Run:
    """One sampler on one list for every picture: how often each asked, and where they came."""

    name: str
    schedule: str
    steps: int
    asked: int = 0

    @property
    def key(self) -> str:
        return f"{self.name} {self.schedule} {self.steps}"


def runs() -> Iterator[Run]:
    yield Run(REFERENCE, REFERENCE_SCHEDULE, REFERENCE_STEPS)
    for name, calls in product(DETERMINISTIC, CALLS):
        yield Run(name, REFERENCE_SCHEDULE, steps_for(name, calls))
    for schedule, calls in product(SIGMA_SCHEDULES, SPACED_CALLS):
        if schedule != REFERENCE_SCHEDULE or calls not in CALLS:
            yield Run(SPACED, schedule, calls)


def steps_for(name: str, calls: int) -> int:
    """Steps of at most so many calls; the last one of two-call samplers asks once, PLMS's first asks twice."""
    return (calls + 1) // 2 if SAMPLERS[name].calls == 2 else calls - (name == "plms")


def counted(guide: Guide, run: Run) -> Guide:
    def denoise(x: Tensor, sigma: float) -> Estimate:
        run.asked += 1
        return (yield from guide(x, sigma))

    return denoise


def measure(model: str | None) -> dict[str, dict[str, float]]:
    """By key: calls per picture, and the distance to the reference."""
    torch.set_num_threads(1)
    sd = sfumato.load(model)
    spec, pictures = sd.spec, list(product(PROMPTS, SEEDS))
    side = spec.defaults.width // spec.vae.factor
    todo, jobs = list(runs()), list[Job]()
    for run, (prompt, seed) in product(todo, pictures):
        positive, negative = (network_guide(sd.denoiser, cond) for cond in sd.encode([prompt, ""], 1))
        guide = counted(cfg(positive, negative, spec.defaults.cfg), run)
        sigmas = sigma_list(run.schedule, sd.table, run.steps)
        stream = NoiseStream(seed, (1, spec.vae.latent_channels, side, side))
        options = WITHOUT_NOISE.get(run.name, {}) | ({"table": sd.table} if SAMPLERS[run.name].timed else {})
        x = stream.normal() * sigmas[0].item()
        jobs.append(SAMPLERS[run.name].run(guide, x, sigmas, sd.denoiser.path, stream, **options))
    ends: dict[int, Tensor] = {}
    for number, event in drive(jobs, max_rows=64):
        if isinstance(event, Failed):
            raise event.error
        if isinstance(event, Finished):
            ends[number] = event.x
    latents = torch.cat([ends[k] for k in range(len(jobs))]).unflatten(0, (len(todo), len(pictures)))
    distances = (latents - latents[0]).square().mean((1, 2, 3, 4)).sqrt() / latents[0].square().mean().sqrt()
    return {
        run.key: {"calls": run.asked / len(pictures), "distance": distance}
        for run, distance in zip(todo, distances.tolist(), strict=True)
    }


def curve(figures: dict[str, dict[str, float]], name: str) -> list[tuple[float, float]]:
    """(calls, distance) of a sampler for each of CALLS, or as many as its steps come to."""
    keys = [Run(name, REFERENCE_SCHEDULE, steps_for(name, calls)).key for calls in CALLS]
    return [(figures[key]["calls"], figures[key]["distance"]) for key in keys]


def chart(figures: dict[str, dict[str, float]]) -> Image.Image:
    """Both axes logarithmic, a line a sampler."""
    return line_chart(
        {SAMPLERS[name].label: curve(figures, name) for name in DRAWN},
        Axis("network calls per picture", log=True, ticks=CALLS),
        Axis("distance to 1000 steps, share of the latents' size", log=True, text=lambda share: f"{100 * share:g}%"),
        dots=True,
        size=(860, 520),
    )


def table(figures: dict[str, dict[str, float]]) -> None:
    rows = [
        [SAMPLERS[name].label, *(f"{100 * distance:.2g}% ({calls:g})" for calls, distance in curve(figures, name))]
        for name in DETERMINISTIC
    ]
    show("Distance, and calls, on Karras's levels", ["", *map(str, CALLS)], rows)
    spaced = [
        [
            SIGMA_SCHEDULES[name].label,
            *(f"{100 * figures[f'{SPACED} {name} {n}']['distance']:.2g}%" for n in SPACED_CALLS),
        ]
        for name in SIGMA_SCHEDULES
    ]
    show(f"Distance of {SAMPLERS[SPACED].label} by schedule", ["", *(f"{n} steps" for n in SPACED_CALLS)], spaced)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--figures", type=Path, help="where to keep what was measured")
    arguments.add_argument("--chart", type=Path)
    arguments.add_argument("--model", help="another model than the embedded one")
    options = arguments.parse_args()
    if options.figures and options.figures.is_file():
        figures = json.loads(options.figures.read_text())
    else:
        figures = measure(options.model)
        if options.figures:
            options.figures.write_text(json.dumps(figures, indent=1))
    table(figures)
    if options.chart:
        small = chart(figures).quantize(64, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        small.convert("RGB").save(options.chart, lossless=True, method=6)


if __name__ == "__main__":
    main()
