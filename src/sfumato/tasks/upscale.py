"""A picture drawn larger, by a model that was made for it."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from sfumato.diffusion.drive import Job
from sfumato.diffusion.path import diffused
from sfumato.diffusion.rng import BrownianPath, NoiseStream
from sfumato.diffusion.sample import find_sampler
from sfumato.diffusion.schedule import sigma_list
from sfumato.errors import SfumatoError
from sfumato.runtime.device import pictures_at_once
from sfumato.tasks.draw import describe, marked
from sfumato.tasks.guidance import guided
from sfumato.tasks.picture import Picture, Progress, decode, run, to_pixels
from sfumato.tasks.settings import Settings
from sfumato.tasks.way import first_latents, last_latents
from sfumato.tasks.words import said

if TYPE_CHECKING:
    from sfumato.model import StableDiffusion

NOISE_LEVEL = 20  # as the authors of the x4 upscaler advise
MAX_PIXELS = 512 * 512  # of the small picture; decoding the large one then takes about 10 GB in float32


def large_size(model: StableDiffusion, image: Image.Image) -> tuple[int, int]:
    """Width and height of what `upscale` makes of a picture.

    Raises SfumatoError for a model of another kind, and for a picture that is too large to be drawn in one piece.
    """
    factor = model.spec.vae.factor
    if model.spec.low_res is None:
        raise SfumatoError(f"{model.name} is {model.spec.title}, which draws no picture larger; give an upscaler")
    if image.width * image.height > MAX_PIXELS:
        most = f"at most {MAX_PIXELS:,} pixels, such as 512x512, can be drawn larger at once"
        raise SfumatoError(f"the picture is {image.width}x{image.height}; {most}; scale it down or cut it")
    return factor * image.width, factor * image.height


def upscale(
    model: StableDiffusion, image: Image.Image, settings: Settings, noise_level: int
) -> Generator[Progress | Picture, None, None]:
    """Draw a picture larger, `settings.n` times; yields steps and finished pictures.

    The model is shown the picture after `noise_level` steps of noise: more lets it invent more. `settings` are for the
    large picture (see `large_size`). Raises SfumatoError at once for a noise level that the model does not know; while
    drawing, for a prompt that is too long or a clip skip the model lacks.
    """
    most = model.spec.max_noise_level
    if type(noise_level) is not int or not 0 <= noise_level <= most:
        raise SfumatoError(f"the noise level is {noise_level!r}; choose a whole number from 0 to {most}")
    return _upscale(model, image, settings, noise_level)


def _upscale(
    model: StableDiffusion, image: Image.Image, settings: Settings, noise_level: int
) -> Generator[Progress | Picture, None, None]:
    spec, denoiser = model.spec, model.denoiser
    assert spec.low_res is not None
    sampler = find_sampler(settings.sampler)
    sampler = replace(sampler, unit_start=sampler.unit_start or spec.unit_start)
    sigmas = sigma_list(settings.schedule, model.table, settings.steps)
    small = padded(image, 2 ** (len(spec.unet.channels) - 1))
    shape = (1, spec.vae.latent_channels, *small.shape[2:])
    pictures = [settings.of_picture(index) for index in range(settings.n)]
    schedule, level = spec.low_res, torch.tensor([noise_level])

    def job(index: int) -> Job:
        seed, _ = settings.seeds(index)
        stream = NoiseStream(seed, shape, model.device)
        shown = diffused(small.to(model.device), stream.normal(small.shape), level, schedule)
        told = partial(replace, ids=level[:, None], concat=shown)
        guidance = guided(model, settings, sigmas, said(model, pictures[index], sigmas).map(told, told))
        x = first_latents(stream.normal(), sigmas, sampler)
        noise = BrownianPath(stream) if sampler.brownian else stream
        options = {"table": model.table} if sampler.timed else {}
        return sampler.guided_by(guidance)(x, sigmas, denoiser.path, noise, **options)

    def finish(index: int, x: Tensor) -> Picture:
        seed = settings.seed + index
        large = decode(model.vae, last_latents(x, sigmas, sampler)).crop((0, 0, settings.width, settings.height))
        if settings.watermark:
            large = marked(large)
        return Picture(index, large, seed, describe(model, pictures[index], seed, {"Noise level": noise_level}))

    jobs = [partial(job, k) for k in range(settings.n)]
    at_once = pictures_at_once(settings.width, settings.height, model.device)
    yield from run(jobs, finish, lambda: model.preview_colours, at_once)


def padded(image: Image.Image, multiple: int) -> Tensor:
    """The picture (1, 3, H, W) in [-1, 1], its last row and column repeated up to multiples of `multiple`."""
    right, below = -image.width % multiple, -image.height % multiple
    return F.pad(to_pixels(image), (0, right, 0, below), mode="replicate")
