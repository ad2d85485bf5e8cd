"""How near samplers come to where 1000 steps lead, by calls of the embedded model's network: two tables.

python bench/sampler_curve.py [--model FOLDER] [--out FIGURES.json]

Every sampler starts from the same noise, with the model's own guidance and noise levels, and without noise on the way.
The distance is the root of the mean square difference of latents, as a share of their own root mean square. The
figures are kept in a file, of which `python tools/docs_pictures.py sampler-curve` draws the chart in docs/samplers.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

import sfumato
from common import show
from sfumato.diffusion.driver import Failed, Finished, Job, drive
from sfumato.diffusion.guidance import Estimate, Guidance, Guide
from sfumato.diffusion.sample import SAMPLERS
from sfumato.diffusion.sigma_schedules import SIGMA_SCHEDULES
from sfumato.errors import SfumatoError
from sfumato.images.charts import Axis, line_chart
from sfumato.pipeline.conditioning import guidance
from sfumato.pipeline.sampling import SamplingRun
from sfumato.settings.settings import Settings

FIGURES = Path(__file__).with_name("sampler-curve.json")
PROMPTS, SEEDS = ("a red heart, 3D style", "dog face, flat style"), (1, 2)
CALLS = (6, 10, 16, 24, 40)
REFERENCE, SCHEDULE, REFERENCE_STEPS = "dpmpp_2m", "sgm_uniform", 1000  # the schedule is the embedded model's own
# Euler's steps are also those of DDIM, Euler a and TCD without noise, and so on; DPM adaptive chooses its own number.
DETERMINISTIC = (
    "euler", "heun", "dpm_2", "lms", "plms", "ipndm", "deis", "dpm_fast", "dpm_solver", "dpmpp_2s", "dpmpp_2m",
    "dpmpp_3m", "unipc", "unipc_bh2", "res_multistep", "er_sde", "sa_solver",
)  # fmt: skip
WITHOUT_NOISE = {"er_sde": {"variant": "ode"}, "sa_solver": {"eta": 0.0}}
SPACED, SPACED_CALLS = "dpmpp_2m", (10, 20)  # schedules are compared with this sampler
SIZE = 860, 520  # of the chart, in pixels
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
    yield Run(REFERENCE, SCHEDULE, REFERENCE_STEPS)
    for name, calls in product(DETERMINISTIC, CALLS):
        yield Run(name, SCHEDULE, steps_for(name, calls))
    for schedule, calls in product(SIGMA_SCHEDULES, SPACED_CALLS):
        if schedule != SCHEDULE or calls not in CALLS:
            yield Run(SPACED, schedule, calls)


def steps_for(name: str, calls: int) -> int:
    """Steps of at most so many calls; the last one of two-call samplers asks once, PLMS's first asks twice."""
    return (calls + 1) // 2 if SAMPLERS[name].calls == 2 else calls - (name == "plms")


def counted(guidance: Guidance, run: Run) -> Guidance:
    def begin() -> Guide:
        guide = guidance.begin()

        def denoise(x: Tensor, sigma: float) -> Estimate:
            run.asked += 1
            return (yield from guide(x, sigma))

        return denoise

    return replace(guidance, begin=begin)


def jobs_of(sd: sfumato.StableDiffusion, run: Run) -> list[Job]:
    """A job for every picture. Raises SfumatoError for a schedule that is not for models of this kind."""
    jobs = []
    for prompt, seed in product(PROMPTS, SEEDS):
        options = {"sampler": run.name, "sampler_options": WITHOUT_NOISE.get(run.name, {})}
        one = Settings.of(sd.spec, prompt, seed=seed, schedule=run.schedule, steps=run.steps, **options)
        sampling = SamplingRun.of(sd, one)
        jobs.append(sampling.job(counted(guidance(sd, one, sampling.sigmas), run), one))
    return jobs


def measure(model: str | None) -> dict[str, dict[str, float]]:
    """By key: calls per picture, and the distance to the reference."""
    torch.set_num_threads(1)
    sd = sfumato.load(model)
    done, jobs = list[Run](), list[Job]()
    for run in runs():
        try:
            jobs += jobs_of(sd, run)
        except SfumatoError as error:
            print(f"{run.key}: {error}", file=sys.stderr)
        else:
            done.append(run)
    ends: dict[int, Tensor] = {}
    for number, event in drive(jobs, max_rows=64):
        if isinstance(event, Failed):
            raise event.error
        if isinstance(event, Finished):
            ends[number] = event.x
    pictures = len(PROMPTS) * len(SEEDS)
    latents = torch.cat([ends[k] for k in range(len(jobs))]).unflatten(0, (len(done), pictures))
    distances = (latents - latents[0]).square().mean((1, 2, 3, 4)).sqrt() / latents[0].square().mean().sqrt()
    return {
        run.key: {"calls": run.asked / pictures, "distance": float(f"{distance:.3g}")}
        for run, distance in zip(done, distances.tolist(), strict=True)
    }


def kept() -> dict[str, dict[str, float]]:
    """What was measured last."""
    return json.loads(FIGURES.read_text(encoding="utf-8"))


def curve(figures: dict[str, dict[str, float]], name: str) -> list[tuple[float, float]]:
    """(calls, distance) of a sampler for each of CALLS, or as many as its steps come to."""
    keys = [Run(name, SCHEDULE, steps_for(name, calls)).key for calls in CALLS]
    return [(figures[key]["calls"], figures[key]["distance"]) for key in keys]


def chart(figures: dict[str, dict[str, float]]) -> Image.Image:
    """Both axes logarithmic, a line a sampler."""
    return line_chart(
        {SAMPLERS[name].label: curve(figures, name) for name in DRAWN},
        Axis("network calls per picture", log=True, ticks=CALLS),
        Axis("distance to 1000 steps, share of the latents' size", log=True, text=lambda share: f"{100 * share:g}%"),
        dots=True,
        size=SIZE,
    )


def rows(figures: dict[str, dict[str, float]]) -> tuple[list[list[str]], list[list[str]]]:
    """The rows of both tables, the nearest in ten calls first: samplers, and schedules."""

    def percent(distance: float) -> str:
        return f"{float(f'{100 * distance:.2g}'):g}%"

    curves = {name: curve(figures, name) for name in DETERMINISTIC}
    samplers = [
        [
            SAMPLERS[name].label,
            *(
                percent(distance) + (f" ({found:g})" if found != calls else "")
                for calls, (found, distance) in zip(CALLS, curves[name], strict=True)
            ),
        ]
        for name in sorted(curves, key=lambda name: curves[name][CALLS.index(10)][1])
    ]
    spaced = {
        name: [figures[key]["distance"] for n in SPACED_CALLS if (key := Run(SPACED, name, n).key) in figures]
        for name in SIGMA_SCHEDULES
    }
    schedules = [
        [SIGMA_SCHEDULES[name].label, *map(percent, distances)]
        for name, distances in sorted(spaced.items(), key=lambda item: item[1])
        if distances
    ]
    return samplers, schedules


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", help="another model than the embedded one")
    arguments.add_argument("--out", type=Path, default=FIGURES, help="where the figures are kept")
    options = arguments.parse_args()
    figures = measure(options.model)
    options.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    samplers, schedules = rows(figures)
    show("Distance by calls, and calls where they differ, on the model's own levels", ["", *map(str, CALLS)], samplers)
    show(f"Distance of {SAMPLERS[SPACED].label} by schedule", ["", *(f"{n} steps" for n in SPACED_CALLS)], schedules)


if __name__ == "__main__":
    main()
