"""Many prompts, each with its own seed, drawn side by side: half as dear as one after the other."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from functools import partial

from torch import Tensor

from sfumato.api import StableDiffusion
from sfumato.diffusion.driver import Job
from sfumato.pipeline.conditioning import guidance
from sfumato.pipeline.latents import Picture, decode, run
from sfumato.pipeline.sampling import SamplingRun
from sfumato.runtime.device import pictures_at_once
from sfumato.settings.settings import Settings


def draw(
    model: StableDiffusion, requests: Sequence[tuple[str, int]], settings: Settings
) -> Generator[Picture, None, None]:
    """Draw each (prompt, seed) and yield its picture, `index` being its place in `requests`, when it is finished.

    The prompt and the seed of `settings` are not used. The pictures are those of `txt2img`, without watermark and text.
    """
    way, words = (
        SamplingRun.of(model, settings),
        replace(settings, prompt_syntax="plain"),
    )  # captions have brackets and colons

    def job(prompt: str, seed: int) -> Job:
        return way.job(guidance(model, replace(words, prompt=prompt), way.sigmas), seed)

    def finish(index: int, x: Tensor) -> Picture:
        return Picture(index, decode(model.vae, way.final_latents(x)), requests[index][1], "")

    jobs = [partial(job, prompt, seed) for prompt, seed in requests]
    at_once = pictures_at_once(settings.width, settings.height, model.device)
    for event in run(jobs, finish, lambda: model.preview_colours, at_once):
        if isinstance(event, Picture):
            yield event
