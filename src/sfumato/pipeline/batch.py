"""Many prompts, each with its own seed, drawn side by side under the same settings: for evaluation and training."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from sfumato.diffusion.driver import Failed, Finished, Job, Step, drive
from sfumato.nets.vae import VAE
from sfumato.pipeline.conditioning import guidance
from sfumato.pipeline.events import Picture
from sfumato.pipeline.generate import Plan, generate
from sfumato.pipeline.model import Model
from sfumato.pipeline.sampling import SamplingRun
from sfumato.settings.settings import Settings

ROWS = 128  # that share a call of the network


class Request(NamedTuple):
    """One picture: its prompt, read as it stands, its seed, and the further input channels (1, C, h, w), if any."""

    prompt: str
    seed: int
    concat: Tensor | None = None


def draw_each(model: Model, requests: Sequence[Request], settings: Settings) -> Generator[Picture, None, None]:
    """Draws all requests and yields each picture when it is finished; `index` is its place in `requests`.

    The prompt and the seed of `settings` are not used. The pictures are those of `txt2img`, without watermark.
    """
    settings = replace(settings, watermark=False)
    run = SamplingRun.of(model, settings)
    plan = Plan.of(model, run, lambda one: guidance(model, one, run.sigmas))
    with closing(generate(model, settings, plan, [_words(settings, request) for request in requests])) as events:
        yield from (event for event in events if isinstance(event, Picture))


@torch.no_grad()
def trajectories(model: Model, requests: Sequence[Request], settings: Settings) -> Tensor:
    """Returns latents (N, S + 1, C, h, w) of N requests: at the S noise levels of `settings`, then finished."""
    run = SamplingRun.of(model, settings)
    pictures = [_words(settings, request) for request in requests]
    jobs = [
        run.job(guidance(model, one, run.sigmas, request.concat), one)
        for one, request in zip(pictures, requests, strict=True)
    ]
    return torch.stack([torch.cat(row) for row in latents_of(jobs)])


def latents_of(jobs: Sequence[Job]) -> list[list[Tensor]]:
    """Returns for each job its latents (1, C, h, w) at every step, and last those that it ends with."""
    seen: list[list[Tensor]] = [[] for _ in jobs]
    for n, event in drive(jobs, ROWS):
        match event:
            case Step(x=x) | Finished(x=x):
                seen[n].append(x)
            case Failed(error=error):
                raise error
    return seen


@torch.no_grad()
def decoded(vae: VAE, latents: Tensor) -> Tensor:
    """Returns pictures (N, 3, H, W), in about [-1, 1], of latents (N, C, h, w)."""
    return torch.cat([vae.decode(vae.from_latents(part.float())) for part in latents.split(16)])


def _words(settings: Settings, request: Request) -> Settings:
    # Captions have brackets and colons, which are no weights.
    return replace(settings, prompt=request.prompt, prompt_syntax="plain", seed=request.seed)
