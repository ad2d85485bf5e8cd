"""Pictures from words."""

from __future__ import annotations

import math
import secrets
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sfumato import __version__
from sfumato.diffusion.cond import Cond
from sfumato.diffusion.drive import Job
from sfumato.diffusion.guide import cfg, plain
from sfumato.diffusion.rng import BrownianPath, NoiseStream
from sfumato.diffusion.sample import Sampler, find_sampler
from sfumato.diffusion.schedule import LABELS, find_schedule, sigma_list
from sfumato.errors import SfumatoError
from sfumato.provenance import infotext, watermark
from sfumato.runtime.device import pictures_at_once
from sfumato.spec import Spec
from sfumato.tasks.picture import Picture, Progress, decode, run

if TYPE_CHECKING:
    from sfumato.model import StableDiffusion

MAX_SIDE = 8192
MAX_PICTURES = 10_000
MAX_SEED = 2**63 - MAX_PICTURES  # every picture of a batch has a seed that torch takes
MAX_CFG = 1000
GOOD, POOR = 6.0, 2.5  # aesthetic scores that the XL refiner is told of a prompt and of a negative one


@dataclass(frozen=True)
class Settings:
    """Everything that decides pictures, besides the model. `Settings.of` fills in a model's defaults and checks."""

    prompt: str
    negative: str
    steps: int
    cfg: float
    seed: int
    width: int
    height: int
    sampler: str
    schedule: str
    clip_skip: int
    n: int
    watermark: bool

    @classmethod
    def of(
        cls,
        spec: Spec,
        prompt: str,
        negative: str = "",
        *,
        steps: int | None = None,
        cfg: float | None = None,
        seed: int | None = None,
        width: int | None = None,
        height: int | None = None,
        sampler: str | None = None,
        schedule: str | None = None,
        clip_skip: int | None = None,
        n: int = 1,
        watermark: bool = True,
    ) -> Settings:
        """What the user gave; else the model's defaults, the schedule that suits a chosen sampler, a seed by chance.

        Raises SfumatoError for the first setting that cannot be honoured.
        """
        defaults = spec.defaults
        chosen = find_sampler(defaults.sampler if sampler is None else sampler)
        if schedule is None:
            schedule = defaults.schedule if sampler is None else chosen.schedule
        seed = _plain(seed)
        settings = cls(
            prompt=prompt,
            negative=negative,
            steps=defaults.steps if steps is None else _plain(steps),
            cfg=defaults.cfg if cfg is None else _plain(cfg),
            seed=secrets.randbelow(2**32) if seed is None or seed == -1 else seed,
            width=defaults.width if width is None else _plain(width),
            height=defaults.height if height is None else _plain(height),
            sampler=chosen.name,
            schedule=find_schedule(schedule),
            clip_skip=defaults.clip_skip if clip_skip is None else _plain(clip_skip),
            n=_plain(n),
            watermark=_plain(watermark),
        )
        settings._check(spec)
        return settings

    def _check(self, spec: Spec) -> None:
        step = spec.vae.factor
        for name, text in (("prompt", self.prompt), ("negative prompt", self.negative)):
            if not isinstance(text, str):
                raise SfumatoError(f"the {name} is {text!r}; give one text in quotes")
        if not self.prompt.strip() and spec.low_res is None:
            raise SfumatoError("the prompt is empty; say in words what to draw")
        for name, value in (("width", self.width), ("height", self.height)):
            if not _whole(value) or value % step or not step <= value <= MAX_SIDE:
                raise SfumatoError(f"{name} is {value!r}; choose a multiple of {step} from {step} to {MAX_SIDE}")
        if not _whole(self.steps) or not 1 <= self.steps <= spec.noise.steps:
            raise SfumatoError(f"steps is {self.steps!r}; choose a whole number from 1 to {spec.noise.steps}")
        if not (isinstance(self.cfg, float) or _whole(self.cfg)) or not abs(self.cfg) <= MAX_CFG:  # NaN is not less
            raise SfumatoError(f"the guidance scale is {self.cfg!r}; choose a number such as 7.5, at most {MAX_CFG}")
        if not _whole(self.seed) or not 0 <= self.seed < MAX_SEED:
            raise SfumatoError(f"the seed is {self.seed!r}; choose a whole number from 0 to {MAX_SEED - 1}")
        if not _whole(self.n) or not 1 <= self.n <= MAX_PICTURES:
            raise SfumatoError(f"n is {self.n!r}; choose 1 to {MAX_PICTURES} pictures")
        if not _whole(self.clip_skip):
            raise SfumatoError(f"clip skip is {self.clip_skip!r}; choose a whole number, 1 for the last layer")
        if not isinstance(self.watermark, bool):
            raise SfumatoError(f"watermark is {self.watermark!r}; choose True or False")


def _plain(value: Any) -> Any:
    """A number of numpy or torch as one of Python; all else as it is."""
    return value.item() if getattr(value, "ndim", None) == 0 else value


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def txt2img(model: StableDiffusion, settings: Settings) -> Generator[Progress | Picture, None, None]:
    """Draw `settings.n` pictures, with seeds seed, seed + 1 ...; yields every step and every finished picture.

    Raises SfumatoError for a prompt that is too long, a clip skip the model lacks, and a model that needs a picture.
    """
    sampler = find_sampler(settings.sampler)
    sigmas = sigma_list(settings.schedule, model.table, settings.steps)
    factor = model.spec.vae.factor
    shape = (1, model.spec.vae.latent_channels, settings.height // factor, settings.width // factor)
    prompt, negative = conditioning(model, settings)
    guide = cfg(plain(model.denoiser, prompt), plain(model.denoiser, negative), settings.cfg)

    def job(seed: int) -> Job:
        stream = NoiseStream(seed, shape, model.device)
        x = first_latents(stream.normal(), sigmas, sampler)
        noise = BrownianPath(stream) if sampler.brownian else stream
        options = {"table": model.table} if sampler.timed else {}
        return sampler.run(guide, x, sigmas, model.denoiser.path, noise, **options)

    def finish(index: int, x: Tensor) -> Picture:
        seed = settings.seed + index
        image = decode(model.vae, last_latents(x, sigmas, sampler))
        if settings.watermark:
            image = marked(image)
        return Picture(index, image, seed, describe(model, settings, seed))

    jobs = [partial(job, settings.seed + k) for k in range(settings.n)]
    at_once = pictures_at_once(settings.width, settings.height, model.device)
    return run(jobs, finish, lambda: model.preview_colours, at_once)


def conditioning(model: StableDiffusion, settings: Settings) -> list[Cond]:
    """The prompt and the negative prompt, with all else that the model is conditioned on."""
    spec = model.spec
    prompt, negative = model.encode([settings.prompt, settings.negative], settings.clip_skip)
    if spec.zero_negative and not settings.negative.strip():
        negative = negative.zeros()
    concat = _beside_latents(model, settings) if spec.unet.in_channels > spec.vae.latent_channels else None
    return [
        replace(cond, ids=size_ids(spec, settings.width, settings.height, score), concat=concat)
        for cond, score in ((prompt, GOOD), (negative, POOR))
    ]


def size_ids(spec: Spec, width: int, height: int, score: float) -> Tensor | None:
    """The numbers (1, K) that condition an XL model on a whole, uncropped picture; None for other models."""
    numbers = {
        "original_size": (height, width),
        "crop": (0, 0),
        "target_size": (height, width),
        "aesthetic_score": (score,),
    }
    values = [number for name in spec.ids for number in numbers[name]]
    return torch.tensor([values], dtype=torch.float32) if values else None


def _beside_latents(model: StableDiffusion, settings: Settings) -> Tensor:
    """What a network that works from a picture is told where there is none."""
    if model.spec.low_res is not None:
        what = f"{model.name} is {model.spec.title}, which draws a picture larger and nothing from words alone"
        raise SfumatoError(f"{what}; use `sfumato upscale` or sd.upscale")
    if model.spec.depth is None:
        return _nothing_to_keep(model, settings)
    factor = model.spec.vae.factor  # depth runs from -1 to 1: a flat picture half way
    return torch.zeros(1, 1, settings.height // factor, settings.width // factor)


@torch.no_grad()
def _nothing_to_keep(model: StableDiffusion, settings: Settings) -> Tensor:
    """What an inpainting model is told when all is to be drawn: a full mask, and the latents of a grey picture."""
    grey = torch.zeros(1, model.spec.vae.in_channels, settings.height, settings.width)
    weight = model.vae.decoder.conv_in.weight
    mean, _ = model.vae.encode(grey.to(weight.device, weight.dtype)).chunk(2, 1)
    latents = model.vae.to_latents(mean).float()
    return torch.cat([torch.ones_like(latents[:, :1]), latents], 1)


def first_latents(noise: Tensor, sigmas: Tensor, sampler: Sampler) -> Tensor:
    """Where sampling starts: pure noise of the first level, or of variance 1 + sigma^2 as the original DDIM has it."""
    sigma = sigmas[0].item()
    return noise * (math.sqrt(1 + sigma**2) if sampler.unit_start else sigma)


def last_latents(x: Tensor, sigmas: Tensor, sampler: Sampler) -> Tensor:
    """Undo the scaling of `first_latents` where the list ends above zero, as the original DDIM's does."""
    return x / math.sqrt(1 + sigmas[-1].item() ** 2) if sampler.unit_start else x


def marked(image: Image.Image) -> Image.Image:
    """With Stable Diffusion's invisible watermark, where the picture is large enough to hold it."""
    if watermark.capacity(image.height, image.width) < 8 * len(watermark.DEFAULT):
        return image
    return Image.fromarray(watermark.embed(np.asarray(image)))


def describe(
    model: StableDiffusion, settings: Settings, seed: int, further: Mapping[str, object] = MappingProxyType({})
) -> str:
    """The settings of one picture in the community's syntax, with the `further` fields of a task."""
    sampler = find_sampler(settings.sampler)
    fields = {
        "Steps": settings.steps,
        "Sampler": sampler.label,
        "Schedule type": LABELS[settings.schedule],
        "CFG scale": settings.cfg,
        "Seed": seed,
        "Size": f"{settings.width}x{settings.height}",
        "Model hash": model.hash,
        "Model": model.name,
        "Clip skip": settings.clip_skip,
        **further,
        "Version": f"sfumato {__version__}",
    }
    return infotext.write(settings.prompt, settings.negative, fields)
