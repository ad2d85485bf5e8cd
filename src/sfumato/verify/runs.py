"""Whole runs of tiny models: what the name of an output says of how it was drawn, and when a model was called."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sfumato.diffusion.cond import Cond
from sfumato.diffusion.driver import Denoiser, Failed, Finished, Job, drive
from sfumato.diffusion.guidance import cfg, network_guide
from sfumato.diffusion.rng import NoiseStream
from sfumato.diffusion.sample import find_sampler
from sfumato.diffusion.sigma_schedules import sigma_list
from sfumato.errors import SfumatoError
from sfumato.pipeline.sampling import first_latents, last_latents
from sfumato.verify.cases import unsupported

# A picture's way: a sampler, its steps, the guidance and what it may have besides, and what is compared at the end.
DRAWN = re.compile(r"e2e\.(\w*?[a-z])(\d+)_cfg([\d.]+)(?:_eta([\d.]+))?(?:_slg([\d.]+))?_(latent|image)")
STEPS = 1000  # at most, and times of all models
MOST_TIMES = 4  # numbers that an input has which holds times


@dataclass(frozen=True)
class Drawn:
    """How a latent or a picture was drawn: `scale` is the guidance, `layer_scale` that of skip-layer guidance."""

    sampler: str
    steps: int
    scale: float
    layer_scale: float = 0.0


def drawing(output: str, draw: Callable[..., Tensor] | None) -> Callable[[], Tensor]:
    """What draws as the name of an output says. Raises SfumatoError where that is not known."""
    match = DRAWN.fullmatch(output)
    # With noise on the way the name would not say which.
    if draw is None or match is None or float(match[4] or 0) or not 1 <= int(match[2]) <= STEPS:
        raise unsupported(f"the output {output}")
    drawn = Drawn(match[1].removesuffix("_edm"), int(match[2]), float(match[3]), float(match[5] or 0))
    return lambda: draw(drawn, match[6])


def called_at(
    output: str, usual: int, call: Callable[[Tensor], Tensor], entry: Mapping[str, Any], inputs: Mapping[str, Tensor]
) -> Tensor:
    """What a model returned when it was called at a time that the reference states, wherever, or at the usual one.

    Of several numbers that may be it, the one that comes nearest is: a network answers every time otherwise.
    """
    facts, reference = entry.get("outputs", {}).get(output, {}), inputs.get(f"out.{output}")
    if reference is None:
        return call(torch.tensor([usual]))
    stated = {int(found) for found in re.findall(r"\bt\w* ?[=:]+ ?(\d{1,4})\b", f"{facts} {entry.get('notes')}")}
    stated |= {value for value in facts.values() if isinstance(value, int)}
    whole = (value for value in inputs.values() if not value.is_floating_point() and value.numel() <= MOST_TIMES)
    stated |= {int(value) for tensor in whole for value in tensor.flatten()}
    times = sorted({usual, *(time for time in stated if 0 <= time < STEPS)})
    answers = (call(torch.tensor([time])) for time in times)
    return min(answers, key=lambda answer: (answer - reference).abs().max().nan_to_num(math.inf).item())


def sampled(denoiser: Denoiser, noise: Tensor, positive: Cond, negative: Cond, run: Drawn) -> Tensor:
    """Latents, the way every picture is drawn, from unit noise."""
    sampler = find_sampler(run.sampler)
    sigmas = sigma_list(sampler.schedule, denoiser.table, run.steps)
    guide = cfg(network_guide(denoiser, positive), network_guide(denoiser, negative), run.scale)
    x, stream = first_latents(noise, sigmas, sampler), NoiseStream(0, tuple(noise.shape))
    return last_latents(finish(sampler.run(guide, x, sigmas, denoiser.path, stream)), sigmas, sampler)


def finish(job: Job) -> Tensor:
    """Drive one job to its end. Raises what the job raises."""
    for _, event in drive([job]):
        if isinstance(event, Failed):
            raise event.error
        if isinstance(event, Finished):
            return event.x
    raise SfumatoError("the sampler ended without a result")
