"""Hires-fix: a picture drawn at the size that a model knows, enlarged, and drawn over at a larger one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

from sfumato.diffusion.driver import Job, Step
from sfumato.diffusion.guidance import Guidance
from sfumato.loading.upscalers import PixelUpscaler, load_upscaler
from sfumato.pipeline.latents import decode, encode, to_pixels
from sfumato.pipeline.pixel_upscaling import resized
from sfumato.pipeline.sampling import SamplingRun
from sfumato.settings.settings import Settings

if TYPE_CHECKING:
    from sfumato.api import StableDiffusion

LATENT, LANCZOS = "latent", "lanczos"


@dataclass(frozen=True, kw_only=True)
class InTwoPasses(Guidance):
    """The guidance of a first pass, and that of the one `again`."""

    again: Guidance

    @classmethod
    def of(cls, first: Guidance, again: Guidance) -> InTwoPasses:
        return cls(begin=first.begin, unconditional=first.unconditional, again=again)


@dataclass(frozen=True, eq=False)
class TwoPasses:
    """One way after the other; between them `enlarged` makes the latents fit the second."""

    first: SamplingRun
    second: SamplingRun
    enlarged: Callable[[Tensor], Tensor]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.second.shape

    def job(
        self,
        guidance: Guidance,
        seed: int,
        init_latents: Tensor | None = None,
        variation: tuple[int, float] | None = None,
    ) -> Job:
        """As `SamplingRun.job`, for guidance `InTwoPasses`. Both passes begin with the noise of the seed."""
        assert isinstance(guidance, InTwoPasses)
        steps = len(self.first.sigmas) - 1
        total = steps + len(self.second.sigmas) - 1
        x = yield from _counted(self.first.job(guidance, seed, init_latents, variation), 0, total)
        start = self.enlarged(self.first.final_latents(x))
        return (yield from _counted(self.second.job(guidance.again, seed, start), steps, total))

    def final_latents(self, x: Tensor) -> Tensor:
        """What the job left, as the autoencoder takes it."""
        return self.second.final_latents(x)


def _counted(job: Job, before: int, total: int) -> Job:
    """The job as a part of a longer one."""
    answers: list[Tensor] | None = None
    while True:
        try:
            event = next(job) if answers is None else job.send(answers)
        except StopIteration as stop:
            return stop.value
        if isinstance(event, Step):
            event = replace(event, index=before + event.index, total=total)
        answers = yield event


def find_upscaler(name: str, model: StableDiffusion) -> PixelUpscaler | str:
    """What a user means by `hires_upscaler`. Raises SfumatoError as `load_upscaler`."""
    return name.lower() if name.lower() in (LATENT, LANCZOS) else load_upscaler(name, model.device)


def enlarged(
    model: StableDiffusion, upscaler: PixelUpscaler | str, shape: tuple[int, int, int, int], x: Tensor
) -> Tensor:
    """Latents (1, C, h, w) of a picture brought to another shape, bilinearly or by way of its pixels."""
    if upscaler == LATENT:
        return F.interpolate(x, size=shape[2:], mode="bilinear", align_corners=False)
    factor = model.spec.vae.factor
    pixels = upscaler if isinstance(upscaler, PixelUpscaler) else None
    image = resized(decode(model.vae, x), factor * shape[3], factor * shape[2], pixels)
    return encode(model.vae, to_pixels(image))


def described(settings: Settings, upscaler: PixelUpscaler | str) -> dict[str, object]:
    """The fields by which web UIs describe a second pass."""
    return {
        "Denoising strength": settings.hires_strength,
        "Hires upscale": settings.hires_scale,
        "Hires steps": settings.hires_steps,
        "Hires upscaler": upscaler.name if isinstance(upscaler, PixelUpscaler) else upscaler.capitalize(),
    }
