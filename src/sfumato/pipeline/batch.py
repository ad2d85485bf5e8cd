"""Many prompts, each with its own seed, drawn side by side under the same settings: for evaluation and training."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from sfumato.api import StableDiffusion
from sfumato.diffusion.driver import Failed, Finished, Job, Step, drive
from sfumato.nets.vae import VAE
from sfumato.pipeline.conditioning import guidance
from sfumato.pipeline.latents import Picture, decode, run
from sfumato.pipeline.sampling import SamplingRun
from sfumato.runtime.device import pictures_at_once
from sfumato.settings.settings import Settings

ROWS = 128  # that share a call of the network


class Request(NamedTuple):
    """One picture: its prompt, read as it stands, its seed, and the further input channels (1, C, h, w), if any."""

    prompt: str
    seed: int
    concat: Tensor | None = None


def draw_each(
    model: StableDiffusion, requests: Sequence[Request], settings: Settings
) -> Generator[Picture, None, None]:
    """Draws all requests and yields each picture when it is finished; `index` is its place in `requests`.

    The prompt and the seed of `settings` are not used. The pictures are those of `txt2img`, without watermark and
    infotext.
    """
    sampling = SamplingRun.of(model, settings)

    def finish(index: int, x: Tensor) -> Picture:
        return Picture(index, decode(model.vae, sampling.final_latents(x)), requests[index].seed, "")

    at_once = pictures_at_once(settings.width, settings.height, model.device)
    jobs = [partial(_job, model, sampling, settings, request) for request in requests]
    for event in run(jobs, finish, lambda: model.preview_colours, at_once):
        if isinstance(event, Picture):
            yield event


@torch.no_grad()
def trajectories(model: StableDiffusion, requests: Sequence[Request], settings: Settings) -> Tensor:
    """Returns latents (N, S + 1, C, h, w) of N requests: at the S noise levels of `settings`, then finished."""
    sampling = SamplingRun.of(model, settings)
    seen: list[list[Tensor]] = [[] for _ in requests]
    for n, event in drive([_job(model, sampling, settings, request) for request in requests], ROWS):
        match event:
            case Step(x=x):
                seen[n].append(x)
            case Finished(x=x):
                seen[n].append(sampling.final_latents(x))
            case Failed(error=error):
                raise error
    return torch.stack([torch.cat(one) for one in seen])


@torch.no_grad()
def decoded(vae: VAE, latents: Tensor) -> Tensor:
    """Returns pictures (N, 3, H, W), in about [-1, 1], of latents (N, C, h, w)."""
    return torch.cat([vae.decode(vae.from_latents(part.float())) for part in latents.split(16)])


def _job(model: StableDiffusion, sampling: SamplingRun, settings: Settings, request: Request) -> Job:
    # Captions have brackets and colons, which are no weights.
    words = replace(settings, prompt=request.prompt, prompt_syntax="plain", seed=request.seed)
    return sampling.job(guidance(model, words, sampling.sigmas, request.concat), request.seed)
