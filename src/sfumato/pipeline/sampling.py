"""Takes one picture from its first latents to its last: a sampler on a list of noise levels."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from sfumato.diffusion.cache_rules import parse_rule
from sfumato.diffusion.driver import Job, with_step_cache
from sfumato.diffusion.guidance import Guidance
from sfumato.diffusion.noise_schedule import Table
from sfumato.diffusion.options import Value
from sfumato.diffusion.process import EXPLODING, ForwardProcess
from sfumato.diffusion.rng import NoiseStream, Source, slerp
from sfumato.diffusion.sample import Sampler, find_sampler
from sfumato.diffusion.sigma_schedules import SIGMA_SCHEDULES, own_list, sigma_list
from sfumato.pipeline.model import Model
from sfumato.settings.settings import Settings


@dataclass(frozen=True, eq=False)
class SamplingRun:
    """Sampler, noise levels and sizes of a request: what its pictures share, whatever they show.

    `shape` is that of one picture's latents (1, C, h, w). `from_noise` says whether the list begins with nothing but
    noise. `seed_shape` is the shape of another picture's latents, in whose noise the first latents begin.
    """

    sampler: Sampler
    table: Table
    sigmas: Tensor
    path: ForwardProcess
    shape: tuple[int, int, int, int]
    device: torch.device
    options: Mapping[str, Value] = field(default_factory=dict)
    rng: Source = "cpu"
    from_noise: bool = True
    seed_shape: tuple[int, int, int, int] | None = None

    @classmethod
    def of(cls, model: Model, settings: Settings) -> SamplingRun:
        """All steps, from pure noise."""
        spec, sampler = model.spec, find_sampler(settings.sampler)
        sampler = replace(sampler, vp_init_noise=sampler.vp_init_noise or spec.vp_init_noise)
        table = model.table_for(settings.width, settings.height)
        sigmas, options = levels_of(settings, table), chosen(settings, sampler.options)

        def shape(width: int, height: int) -> tuple[int, int, int, int]:
            return 1, spec.vae.latent_channels, max(1, height // spec.vae.factor), max(1, width // spec.vae.factor)

        seed_shape = None if settings.seed_resize is None else shape(*settings.seed_resize)
        own = shape(settings.width, settings.height)
        return cls(
            sampler, table, sigmas, model.denoiser.path, own, model.device, options, settings.rng, seed_shape=seed_shape
        )

    def stream(self, seed: int) -> NoiseStream:
        """All noise of a picture, the first latents' being the next."""
        return NoiseStream(seed, self.shape, self.device, self.rng)

    def from_strength(self, strength: float) -> SamplingRun:
        """Returns the run of the last share `strength` of the steps, for given latents; 1 begins with noise alone.

        SDEdit (Meng et al. 2022) as the original img2img has it.
        """
        if strength == 1:
            return self
        steps = len(self.sigmas) - 1
        return replace(self, sigmas=self.sigmas[steps - steps_taken(strength, steps) :], from_noise=False)

    def job(self, guidance: Guidance, one: Settings, init_latents: Tensor | None = None) -> Job:
        """Starts the sampler on one picture, given that picture's own settings.

        Its first noise is given, or that of its seed, turned towards that of its variation seed. It is laid over the
        `init_latents` (1, C, h, w), unless the list begins with noise alone. The job returns latents as the autoencoder
        takes them.
        """
        stream = self.stream(one.seed)
        first = self.first_noise(stream, one)
        x = self.initial_latents(first, init_latents)
        guidance = self.constrained(guidance, first, init_latents)
        sampling = self.sampler.job(guidance, x, self.sigmas, self.path, stream, self.table, self.options)
        if one.step_cache is not None:
            sampling = with_step_cache(sampling, parse_rule(one.step_cache))
        return self._finished(sampling, init_latents)

    def first_noise(self, stream: NoiseStream, one: Settings) -> Tensor:
        """Returns the first noise (1, C, h, w) of one picture, whose `stream` is at its beginning."""
        noise = one.tensors.noise(stream.normal())
        first = noise if self.seed_shape is None else self._noise_of(one.seed)
        if one.variation_seed is not None:
            first = slerp(first, self._noise_of(one.variation_seed), one.variation_strength)
        return first if self.seed_shape is None else centred(first, noise)

    def _noise_of(self, seed: int) -> Tensor:
        """The noise of a seed in the shape in which seeds are varied."""
        if self.seed_shape is None:
            return self.stream(seed).normal()
        return NoiseStream(seed, self.seed_shape, self.device, self.rng).normal()

    def _finished(self, sampling: Job, init_latents: Tensor | None) -> Job:
        x = yield from sampling
        return self.final_latents(x, init_latents)

    def constrained(self, guidance: Guidance, noise: Tensor, init_latents: Tensor | None) -> Guidance:
        """Returns the guidance that holds in place what must not change; here nothing is held."""
        return guidance

    def initial_latents(self, noise: Tensor, init_latents: Tensor | None) -> Tensor:
        """Returns the first latents (1, C, h, w), from unit noise and a picture's latents; see `job`."""
        if init_latents is None or self.from_noise:
            return first_latents(noise, self.sigmas, self.sampler, self.path)
        return (
            self.path.noised(init_latents.to(noise), noise, self.sigmas[:1])
            if len(self.sigmas) > 1
            else init_latents.to(noise)
        )

    def final_latents(self, x: Tensor, init_latents: Tensor | None) -> Tensor:
        """Returns the latents (1, C, h, w) that the autoencoder takes, from those that the sampler returned."""
        return last_latents(x, self.sigmas, self.sampler, self.path) if len(self.sigmas) > 1 else x


def centred(small: Tensor, large: Tensor) -> Tensor:
    """Returns `large` (1, C, h, w) with `small` (1, C, h', w') in its middle; what reaches beyond it is cut off.

    By whole latents from the left and top, rounded as the web UI does, so that its pictures come out.
    """
    result = large.clone()
    places = []
    for inner, outer in zip(small.shape[2:], large.shape[2:], strict=True):
        offset = (outer - inner) // 2
        length = inner + 2 * min(offset, 0)
        places.append((max(offset, 0), max(-offset, 0), length))
    (y, from_y, height), (x, from_x, width) = places
    result[:, :, y : y + height, x : x + width] = small[:, :, from_y : from_y + height, from_x : from_x + width]
    return result


def steps_taken(strength: float, steps: int) -> int:
    """Returns how many of `steps` a strength from 0 to 1 takes: its share rounded down, but at least one above 0."""
    return max(1, int(strength * steps + 1e-9)) if strength > 0 else 0


def levels_of(settings: Settings, table: Table) -> Tensor:
    """Returns the noise levels (steps + 1,) that settings ask for. Raises SfumatoError if the table lacks them."""
    if settings.sigmas is not None:
        return own_list(settings.sigmas, table)
    options = chosen(settings, SIGMA_SCHEDULES[settings.schedule].options)
    return sigma_list(settings.schedule, table, settings.steps, **options)


def chosen(settings: Settings, known: Container[str]) -> dict[str, Value]:
    """Those of the settings' sampler options that are known here: to the sampler, or to the schedule."""
    return {name: value for name, value in settings.sampler_options.items() if name in known}


def first_latents(noise: Tensor, sigmas: Tensor, sampler: Sampler, path: ForwardProcess = EXPLODING) -> Tensor:
    """Scales unit noise to the first level, or to the variance 1 + sigma^2 as the original DDIM does."""
    sigma = sigmas[0].item()
    return noise * (math.sqrt(1 + sigma**2) if sampler.vp_init_noise and path == EXPLODING else sigma)


def last_latents(x: Tensor, sigmas: Tensor, sampler: Sampler, path: ForwardProcess = EXPLODING) -> Tensor:
    """Undo the scaling of `first_latents` where the list ends above zero, as the original DDIM's does."""
    return x / math.sqrt(1 + sigmas[-1].item() ** 2) if sampler.vp_init_noise and path == EXPLODING else x
