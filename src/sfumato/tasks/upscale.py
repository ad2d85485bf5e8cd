"""A picture drawn larger: by the x4 upscaler, which is made for it, or enlarged and drawn over by any model."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Unpack

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from sfumato.diffusion.cond import Cond
from sfumato.diffusion.driver import Job
from sfumato.diffusion.guidance import Guidance
from sfumato.diffusion.process import diffused
from sfumato.diffusion.rng import NoiseStream
from sfumato.diffusion.sample import find_sampler
from sfumato.diffusion.windows import Window, windowed, windows
from sfumato.errors import SfumatoError
from sfumato.loading.upscalers import PixelUpscaler
from sfumato.nets.prior import Underlay
from sfumato.pipeline.conditioning import guidance
from sfumato.pipeline.depth import depth_of
from sfumato.pipeline.generate import describe, draw, marked
from sfumato.pipeline.guidance import guided
from sfumato.pipeline.latents import Picture, Progress, decode, encode, run, to_pixels
from sfumato.pipeline.pixel_upscaling import MAX_SCALE, large_size, resized
from sfumato.pipeline.prompts import encode_prompts
from sfumato.pipeline.ranking import Ranking
from sfumato.pipeline.sampling import SamplingRun, chosen, first_latents, last_latents, levels_of
from sfumato.runtime.device import pictures_at_once
from sfumato.settings.checks import check_number, check_whole
from sfumato.settings.settings import Options, Settings
from sfumato.spec import Spec
from sfumato.tasks.img2img import check_strength, padded

if TYPE_CHECKING:
    from sfumato.api import StableDiffusion

SCALE = 2.0
STRENGTH = 0.3  # adds detail and leaves what is there where it is
OVERLAP = 0.25
NOISE_LEVEL = 20  # as the authors of the x4 upscaler advise
WHOLE = 512  # pixels of a side of a small picture; the x4 upscaler draws more in windows
WINDOW = 256  # of such a window


@dataclass(frozen=True)
class UpscaleOptions:
    """How a picture becomes larger. None is what suits the model, which must know what is given.

    `scale` is how many times as wide and high. Any model draws over what a `upscaler` of pixels, or Lanczos' filter,
    has enlarged, by a `strength` as img2img has it, in windows of its own size that share the part `overlap` of their
    sides. The x4 upscaler sees the small picture under `noise_level` steps of noise: more lets it invent more.
    """

    scale: float | None = None
    upscaler: PixelUpscaler | None = None
    strength: float | None = None
    noise_level: int | None = None
    overlap: float = OVERLAP

    def check(self, spec: Spec) -> None:
        """Raises SfumatoError for what the model does not know, and for a number out of range."""
        check_number("the overlap", self.overlap, 0, 0.5, OVERLAP)
        if spec.low_res is None:
            check_number("the scale", SCALE if self.scale is None else self.scale, 1, MAX_SCALE, SCALE)
            check_strength(STRENGTH if self.strength is None else self.strength)
            if self.noise_level is not None:
                raise SfumatoError(f"{spec.title} has no noise level; give a strength from 0 to 1")
            return
        level = NOISE_LEVEL if self.noise_level is None else self.noise_level
        check_whole("the noise level", level, 0, spec.max_noise_level)
        if self.scale not in (None, spec.vae.factor):
            raise SfumatoError(f"{spec.title} draws {spec.vae.factor} times as large, not {self.scale}; leave it out")
        for name, value in (("upscaler of pixels", self.upscaler), ("strength", self.strength)):
            if value is not None:
                raise SfumatoError(f"{spec.title} needs no {name}; leave it out")


def settings_of(
    spec: Spec,
    image: Image.Image,
    enlarging: UpscaleOptions,
    prompt: str = "",
    negative: str = "",
    **options: Unpack[Options],
) -> Settings:
    """Settings for the large picture, whose size need not be one that the model draws at once.

    Raises SfumatoError as `Settings.of` and `UpscaleOptions.check`, for a size in the options and a large one.
    """
    enlarging.check(spec)
    if options.get("width") is not None or options.get("height") is not None:
        raise SfumatoError("the size of an enlarged picture follows from the scale; leave width and height out")
    settings = Settings.of(spec, prompt, negative, **options)
    scale = spec.vae.factor if spec.low_res is not None else enlarging.scale or SCALE
    width, height = large_size(image, scale)
    return replace(settings, width=width, height=height)


def upscale(
    model: StableDiffusion, image: Image.Image, settings: Settings, enlarging: UpscaleOptions
) -> Generator[Progress | Picture, None, None]:
    """Draw a picture larger, `settings.n` times; yields steps and finished pictures.

    `settings` are those of `settings_of`. Raises SfumatoError for a prompt that is too long or a clip skip that the
    model lacks.
    """
    return (_redrawn if model.spec.low_res is None else _four_times)(model, image, settings, enlarging)


def _redrawn(
    model: StableDiffusion, image: Image.Image, settings: Settings, enlarging: UpscaleOptions
) -> Generator[Progress | Picture, None, None]:
    strength, size = STRENGTH if enlarging.strength is None else enlarging.strength, (settings.width, settings.height)
    large = resized(image, *size, enlarging.upscaler)
    multiple = model.spec.multiple
    large = padded(large, 0, 0, -size[0] % multiple, -size[1] % multiple)
    way = SamplingRun.of(model, replace(settings, width=large.width, height=large.height)).from_strength(strength)
    concat = None if model.depth is None else depth_of(model.depth, large, *way.shape[2:])
    known = encode(model.vae, to_pixels(large))
    underlay = Underlay(known, strength=strength)

    def guide(one: Settings) -> Guidance:
        drawn = replace(one, width=large.width, height=large.height)
        return in_windows(model, drawn, guidance(model, drawn, way.sigmas, concat, underlay), enlarging.overlap)

    facts = {
        "Denoising strength": strength,
        "SD upscale upscaler": "Lanczos" if enlarging.upscaler is None else enlarging.upscaler.name,
        "SD upscale overlap": enlarging.overlap,
    }
    return draw(model, settings, way, guide, known, lambda image: image.crop((0, 0, *size)), facts)


def in_windows(model: StableDiffusion, settings: Settings, whole: Guidance, overlap: float = OVERLAP) -> Guidance:
    """The guidance in windows of the size that the model draws by itself; as it is where that is enough.

    A model that is told sizes is told of each window as a crop of the whole picture.
    """
    spec = model.spec
    factor, step = spec.vae.factor, spec.multiple // spec.vae.factor
    size = settings.height // factor, settings.width // factor
    side = min(spec.defaults.width, spec.defaults.height) // factor
    if max(size) <= side:
        return whole
    shared = round(overlap * side / step) * step
    cut = windows(size, side, shared, step)
    return whole.through(lambda guide: windowed(guide, cut, shared, partial(_told_of_crop, spec)))


def _told_of_crop(spec: Spec, cond: Cond, window: Window) -> Cond:
    """The numbers of `size_ids`, for a window of what they describe."""
    if cond.ids is None or "crop" not in spec.micro_conditioning:
        return cond
    ids, column = cond.ids.clone(), 0
    for name in spec.micro_conditioning:
        if name == "crop":
            ids[:, column : column + 2] += torch.tensor([spec.vae.factor * one.start for one in window])
        elif name == "target_size":
            ids[:, column : column + 2] = torch.tensor([spec.vae.factor * (one.stop - one.start) for one in window])
        column += 1 if name == "aesthetic_score" else 2
    return replace(cond, ids=ids)


def _four_times(
    model: StableDiffusion, image: Image.Image, settings: Settings, enlarging: UpscaleOptions
) -> Generator[Progress | Picture, None, None]:
    spec, denoiser = model.spec, model.denoiser
    assert spec.low_res is not None
    noise_level = NOISE_LEVEL if enlarging.noise_level is None else enlarging.noise_level
    sampler = find_sampler(settings.sampler)
    sampler = replace(sampler, vp_init_noise=sampler.vp_init_noise or spec.vp_init_noise)
    sigmas, options = levels_of(settings, model.table), chosen(settings, sampler.options)
    small = filled(image, 2 ** (len(spec.unet.channels) - 1))
    shape = (1, spec.vae.latent_channels, *small.shape[2:])
    pictures = [settings.of_picture(index) for index in range(settings.draws)]
    schedule, level = spec.low_res, torch.tensor([noise_level])
    ranking = Ranking.of(model, settings)
    cut: list[Window] = []
    if small.shape[2] * small.shape[3] > WHOLE**2:
        cut = windows(small.shape[2:], WINDOW, round(enlarging.overlap * WINDOW))

    def job(index: int) -> Job:
        seed, _ = settings.seeds(index)
        stream = NoiseStream(seed, shape, model.device, settings.rng)
        shown = diffused(small.to(model.device), stream.normal(small.shape), level, schedule)
        told = partial(replace, ids=level[:, None], concat=shown)
        weighed = guided(model, settings, sigmas, encode_prompts(model, pictures[index], sigmas).map(told, told))
        if cut:
            weighed = weighed.through(lambda guide: windowed(guide, cut, round(enlarging.overlap * WINDOW)))
        x = first_latents(stream.normal(), sigmas, sampler)
        return sampler.job(weighed, x, sigmas, denoiser.path, stream, model.table, options)

    def finish(index: int, x: Tensor) -> Picture:
        seed = settings.seed + index
        large = decode(model.vae, last_latents(x, sigmas, sampler)).crop((0, 0, settings.width, settings.height))
        if settings.watermark:
            large = marked(large)
        score = None if ranking is None else ranking.score(large, pictures[index].prompt)
        told = {"Noise level": noise_level, "Best of": settings.best_of, "CLIP score": score}
        return Picture(index, large, seed, describe(model, pictures[index], seed, told), score)

    jobs = [partial(job, k) for k in range(settings.draws)]
    at_once = pictures_at_once(settings.width, settings.height, model.device)
    events = run(jobs, finish, lambda: model.preview_colours, at_once)
    return events if ranking is None else ranking.best(events)


def filled(image: Image.Image, multiple: int) -> Tensor:
    """The picture (1, 3, H, W) in [-1, 1], its last row and column repeated up to multiples of `multiple`."""
    right, below = -image.width % multiple, -image.height % multiple
    return F.pad(to_pixels(image), (0, right, 0, below), mode="replicate")
