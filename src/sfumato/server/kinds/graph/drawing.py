"""What a sampler node does: each picture of a batch on its way through a list of noise levels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from sfumato.diffusion.driver import Event, Failed, Finished, Job, Step, collected, emitting
from sfumato.diffusion.guidance import Guidance
from sfumato.diffusion.noise_schedule import FlowTable, Table
from sfumato.diffusion.rng import NoiseStream
from sfumato.errors import SfumatoError
from sfumato.pipeline.events import Progress
from sfumato.pipeline.metadata import describe
from sfumato.pipeline.model import Model
from sfumato.pipeline.sampling import SamplingRun
from sfumato.runtime.device import memory_for, pictures_at_once
from sfumato.server.kinds.graph.encoding import Conditions, options_of
from sfumato.server.kinds.graph.run import Making, Run
from sfumato.server.kinds.graph.steering import held
from sfumato.server.kinds.graph.values import Guider, Latent, ModelRef, SamplerChoice
from sfumato.server.strong_guidance import tamed
from sfumato.settings.option import written
from sfumato.settings.settings import MAX_SEED, Settings
from sfumato.settings.task_options import Img2ImgOptions
from sfumato.settings.tensors import NO_TENSORS, Tensors
from sfumato.spec import Spec


@dataclass(frozen=True, eq=False)
class Sampling:
    """What a sampler node asks for. `levels` makes the falling noise levels of the model's table.

    `strength` is the share of all steps that these are; `schedule` and `steps` are what is told of them, where they
    have a name. Without `adds_noise` the latents begin as they are.
    """

    guider: Guider
    sampler: SamplerChoice
    levels: Callable[[Table], Tensor]
    latent: Latent
    seed: int
    adds_noise: bool = True
    strength: float = 1.0
    schedule: str | None = None
    steps: int | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class GraphRun(SamplingRun):
    """A run that ends as ComfyUI's do: noise that is left over is that of the level, and a mask holds what is outside.

    `share` (1, 1, h, w) of each place is drawn; None is all. With `differential` it is drawn wholly, but only in that
    share of the steps, the last ones.
    """

    share: Tensor | None = None
    differential: bool = False

    def constrained(self, guidance: Guidance, noise: Tensor, init_latents: Tensor | None) -> Guidance:
        if init_latents is None or self.share is None:
            return guidance
        return held(guidance, init_latents, self.share_at, noise, self.path)

    def share_at(self, sigma: float) -> Tensor:
        """How much of each place is drawn at a noise level."""
        assert self.share is not None
        if not self.differential:
            return self.share
        steps = len(self.sigmas) - 1
        begun = int((self.sigmas[:-1] * (1 + 1e-6) >= sigma).sum()) - 1
        return (self.share > 1 - (max(0, begun) + 1) / steps).float()

    def final_latents(self, x: Tensor, init_latents: Tensor | None) -> Tensor:
        x, last = super().final_latents(x, init_latents), self.sigmas[-1].item()
        if last > 0:
            return x / self.path.alpha(last)
        if init_latents is None or self.share is None:
            return x
        share = self.share_at(last) if self.differential else self.share
        return share * x + (1 - share) * init_latents


def table_of(model: Model, ref: ModelRef, size: tuple[int, int]) -> Table:
    """The noise levels of a model for pictures of a size, with the shift that nodes gave it."""
    table = model.table_for(*size)
    return replace(table, shift=ref.shift) if ref.shift is not None and isinstance(table, FlowTable) else table


def on_model(latent: Latent, spec: Spec) -> Latent:
    """Latents as a model takes them: in the nearest size that it can draw, and empty ones with its channels.

    Raises SfumatoError for those of other models.
    """
    channels, factor, step = spec.vae.latent_channels, spec.vae.factor, spec.multiple
    own = (latent.samples.shape[1], latent.factor) == (channels, factor)
    if not own and not latent.empty:
        raise SfumatoError(
            f"the latents have {latent.samples.shape[1]} channels of {latent.factor} pixels; {spec.title} takes "
            f"{channels} of {factor}; encode or draw them with its own VAE and model"
        )
    width, height = (max(step, round(side / step) * step) for side in latent.size)
    if own and (width, height) == latent.size:
        return latent
    size = height // factor, width // factor
    if latent.empty:
        return replace(latent, samples=torch.zeros(len(latent.samples), channels, *size), factor=factor)
    return replace(latent, samples=F.interpolate(latent.samples, size, mode="bilinear"))


def settings_of(spec: Spec, asked: Sampling, size: tuple[int, int], said: tuple[str, str, Any]) -> Settings:
    """The settings of a sampler's first picture. Raises SfumatoError for what the model cannot do."""
    prompt, negative, options = said
    given: dict[str, Any] = {
        "width": size[0], "height": size[1], "seed": asked.seed, "cfg": asked.guider.cfg, "emphasis": "comfy",
        "prompt_syntax": "comfyui", "sampler": asked.sampler.name, "steps": asked.steps, "schedule": asked.schedule,
        "sampler_options": dict(asked.sampler.options), **tamed(asked.guider.cfg, spec), **options,
        **dict(asked.guider.model.options),
    }  # fmt: skip
    return Settings.of(spec, prompt, negative, **given)


def sampled(run: Run, asked: Sampling) -> Making[Latent]:
    """Draws all pictures of a batch; yields their steps, and returns their latents. Raises SfumatoError."""
    ref = asked.guider.model
    model = run.model(ref.parts)
    latent = on_model(asked.latent, model.spec)
    size, count = latent.size, len(latent.samples)
    one = settings_of(model.spec, asked, size, options_of(asked.guider, model))
    model = model.for_request(one)
    table = table_of(model, ref, size)
    sigmas = asked.levels(table)
    if len(sigmas) < 2:
        return latent
    share = latent.mask if latent.mask is not None and not latent.empty else None
    whole = replace(SamplingRun.of(model, one), table=table, sigmas=sigmas, from_noise=latent.empty)
    noise = NoiseStream(asked.seed, (count, *whole.shape[1:]), model.device, one.rng).normal()
    noise = noise if asked.adds_noise else torch.zeros_like(noise)

    def settings(row: int) -> Settings:
        seed = (asked.seed + row) % MAX_SEED
        if latent.seeds and (latent.noisy or not asked.adds_noise):
            seed = latent.seeds[row]  # of a picture that goes on, for what a prior lays out
        return replace(one, seed=seed, tensors=Tensors(latents=noise[row : row + 1]))

    def job(row: int) -> Job:
        own = settings(row)
        conditions = Conditions(
            run, asked.guider, model, own, sigmas, table, replace(latent, mask=share), row, asked.strength
        )
        mask = None if share is None else _to(share[row % len(share)][None], whole.shape[2:]).to(model.device)
        graph_run = GraphRun(**vars(whole), share=mask, differential=ref.differential)
        init = None if latent.empty else latent.samples[row : row + 1].to(model.device)
        return graph_run.job(conditions.guidance(), own, init)

    jobs = [partial(job, row) for row in range(count)]
    done = yield from drawn(jobs, model.preview, pictures_at_once(*size, model.device))
    fields = written(Img2ImgOptions, Img2ImgOptions(asked.strength)) if not latent.empty else {}
    texts = []
    for row in range(count):
        own = settings(row)
        texts.append(describe(model, replace(own, tensors=NO_TENSORS) if row == 0 else own, fields))
    return Latent(
        torch.cat(done).cpu(), latent.factor, latent.mask, tuple(settings(row).seed for row in range(count)),
        tuple(texts), noisy=sigmas[-1].item() > 0,
    )  # fmt: skip


def _to(mask: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(mask.float(), tuple(size), mode="bilinear", antialias=True).clamp(0, 1)


def drawn(
    jobs: Sequence[Callable[[], Job]], preview: Callable[[Tensor], Image.Image], at_once: int
) -> Making[list[Tensor]]:
    """Runs jobs to their ends, `at_once` side by side; yields their steps and returns what they return."""
    done: dict[int, Tensor] = {}

    def told(start: int, event: tuple[int, Event]) -> Iterator[Progress]:
        match event:
            case number, Step(index=index, total=total, sigma=sigma, x=x, x0=x0):
                yield Progress(start + number, index + 1, total, partial(preview, x0), sigma, x, x0)
            case number, Finished(x=x):
                done[start + number] = x
            case _, Failed(error=error):
                raise error

    with memory_for("for pictures of this size; draw smaller or fewer ones"):
        for start in range(0, len(jobs), at_once):
            group = [job() for job in jobs[start : start + at_once]]
            yield from emitting(collected(group), partial(told, start))
    return [done[k] for k in range(len(jobs))]
