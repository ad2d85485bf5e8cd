"""Many prompts, each with its own seed, drawn side by side: half as dear as one after the other."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial

from torch import Tensor

from sfumato.diffusion.drive import Job
from sfumato.diffusion.guide import cfg, plain
from sfumato.diffusion.rng import BrownianPath, NoiseStream
from sfumato.diffusion.sample import find_sampler
from sfumato.diffusion.schedule import sigma_list
from sfumato.model import StableDiffusion
from sfumato.runtime.device import pictures_at_once
from sfumato.tasks.picture import Picture, decode, run
from sfumato.tasks.txt2img import Settings, first_latents, last_latents


def draw(
    model: StableDiffusion, requests: Sequence[tuple[str, int]], settings: Settings
) -> Generator[Picture, None, None]:
    """Draw each (prompt, seed) and yield its picture, `index` being its place in `requests`, when it is finished.

    The prompt and the seed of `settings` are not used. The pictures are those of `txt2img`, without watermark and text.
    """
    sampler = find_sampler(settings.sampler)
    sigmas = sigma_list(settings.schedule, model.table, settings.steps)
    factor = model.spec.vae.factor
    shape = (1, model.spec.vae.latent_channels, settings.height // factor, settings.width // factor)

    def job(prompt: str, seed: int) -> Job:
        wanted, unwanted = model.encode([prompt, settings.negative], settings.clip_skip)
        guide = cfg(plain(model.denoiser, wanted), plain(model.denoiser, unwanted), settings.cfg)
        stream = NoiseStream(seed, shape, model.device)
        x = first_latents(stream.normal(), sigmas, sampler)
        noise = BrownianPath(stream) if sampler.brownian else stream
        return sampler.run(guide, x, sigmas, model.denoiser.path, noise)

    def finish(index: int, x: Tensor) -> Picture:
        return Picture(index, decode(model.vae, last_latents(x, sigmas, sampler)), requests[index][1], "")

    jobs = [partial(job, prompt, seed) for prompt, seed in requests]
    at_once = pictures_at_once(settings.width, settings.height, model.device)
    for event in run(jobs, finish, lambda: model.preview_colours, at_once):
        if isinstance(event, Picture):
            yield event
