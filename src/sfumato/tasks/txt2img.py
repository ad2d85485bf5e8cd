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
from sfumato.diffusion.guide import Guide, away_from, cfg, plain, rescale, switch_at, within
from sfumato.diffusion.path import EXPLODING, Path
from sfumato.diffusion.rng import BrownianPath, NoiseStream
from sfumato.diffusion.sample import Sampler, find_sampler
from sfumato.diffusion.schedule import LABELS, Table, find_schedule, sigma_list
from sfumato.errors import SfumatoError
from sfumato.nets.mmdit import MMDiT
from sfumato.nets.worse import without_layers
from sfumato.provenance import infotext, watermark
from sfumato.runtime.device import pictures_at_once
from sfumato.spec import MAX_SIDE, SkipLayers, Spec
from sfumato.tasks.picture import Picture, Progress, decode, encode, run

if TYPE_CHECKING:
    from sfumato.model import StableDiffusion

MAX_PICTURES = 10_000
MAX_SEED = 2**63 - MAX_PICTURES  # every picture of a batch has a seed that torch takes
MAX_CFG = 1000
GOOD, POOR = 6.0, 2.5  # aesthetic scores that the XL refiner is told of a prompt and of a negative one
MAX_SCORE = 10.0
SWITCH_AT = 0.8  # the XL refiner is trained on the last fifth of the times (Podell et al. 2023, section 2.5)

Pair = tuple[int, int]


@dataclass(frozen=True)
class Settings:
    """Everything that decides pictures, besides the models. `Settings.of` fills in a model's defaults and checks.

    What XL is told of a picture: `original_size` and `target_size` (width, height), `crop` (left, top), None for a
    whole picture of the drawn size; `aesthetic_score` of the prompt, None for 6. `switch_at` is None without a refiner.
    """

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
    cfg_rescale: float = 0.0
    slg: float = 0.0
    original_size: Pair | None = None
    crop: Pair | None = None
    target_size: Pair | None = None
    aesthetic_score: float | None = None
    switch_at: float | None = None

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
        cfg_rescale: float | None = None,
        slg: float | None = None,
        original_size: Pair | None = None,
        crop: Pair | None = None,
        target_size: Pair | None = None,
        aesthetic_score: float | None = None,
        switch_at: float | None = None,
        refiner: Spec | None = None,
    ) -> Settings:
        """What the user gave; else the model's defaults, the schedule that suits a chosen sampler, a seed by chance.

        `refiner` is the model that is handed over to, `switch_at` None then its authors' share.
        Raises SfumatoError for the first setting that cannot be honoured.
        """
        defaults = spec.defaults
        chosen = find_sampler(defaults.sampler if sampler is None else sampler)
        if schedule is None:
            # Schedules made for levels without end crowd at the wrong end of a flow's.
            keep = sampler is None or spec.prediction == "flow"
            schedule = defaults.schedule if keep else chosen.schedule
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
            cfg_rescale=defaults.cfg_rescale if cfg_rescale is None else _plain(cfg_rescale),
            slg=defaults.slg if slg is None else _plain(slg),
            original_size=_pair(original_size),
            crop=_pair(crop),
            target_size=_pair(target_size),
            aesthetic_score=_plain(aesthetic_score),
            switch_at=SWITCH_AT if switch_at is None and refiner is not None else _plain(switch_at),
        )
        settings._check(spec)
        settings._check_ids(spec, refiner)
        return settings

    def _check(self, spec: Spec) -> None:
        step, most = spec.multiple, spec.max_side
        for name, text in (("prompt", self.prompt), ("negative prompt", self.negative)):
            if not isinstance(text, str):
                raise SfumatoError(f"the {name} is {text!r}; give one text in quotes")
        if not self.prompt.strip() and spec.low_res is None:
            raise SfumatoError("the prompt is empty; say in words what to draw")
        for name, value in (("width", self.width), ("height", self.height)):
            if not _whole(value) or value % step or not step <= value <= most:
                raise SfumatoError(f"{name} is {value!r}; choose a multiple of {step} from {step} to {most}")
        if not _whole(self.steps) or not 1 <= self.steps <= spec.noise.steps:
            raise SfumatoError(f"steps is {self.steps!r}; choose a whole number from 1 to {spec.noise.steps}")
        for name, scale in (("guidance scale", self.cfg), ("scale of skip-layer guidance", self.slg)):
            if not _number(scale) or not abs(scale) <= MAX_CFG:  # NaN is not less
                raise SfumatoError(f"the {name} is {scale!r}; choose a number such as 7.5, at most {MAX_CFG}")
        if self.slg and spec.skip_layers is None:
            raise SfumatoError(f"{spec.title} has no skip-layer guidance; leave its scale out")
        if not _whole(self.seed) or not 0 <= self.seed < MAX_SEED:
            raise SfumatoError(f"the seed is {self.seed!r}; choose a whole number from 0 to {MAX_SEED - 1}")
        if not _whole(self.n) or not 1 <= self.n <= MAX_PICTURES:
            raise SfumatoError(f"n is {self.n!r}; choose 1 to {MAX_PICTURES} pictures")
        if not _whole(self.clip_skip):
            raise SfumatoError(f"clip skip is {self.clip_skip!r}; choose a whole number, 1 for the last layer")
        if not isinstance(self.watermark, bool):
            raise SfumatoError(f"watermark is {self.watermark!r}; choose True or False")
        if not _number(self.cfg_rescale) or not 0 <= self.cfg_rescale <= 1:
            raise SfumatoError(
                f"the guidance rescale is {self.cfg_rescale!r}; choose a number from 0 to 1, such as 0.7"
            )

    def _check_ids(self, spec: Spec, refiner: Spec | None) -> None:
        known = {*spec.ids, *(() if refiner is None else refiner.ids)}
        for name, value, least in (
            ("original_size", self.original_size, 1),
            ("target_size", self.target_size, 1),
            ("crop", self.crop, 0),
        ):
            if value is None:
                continue
            if name not in known:
                raise SfumatoError(f"{spec.title} is not conditioned on {name}; leave it out")
            if not isinstance(value, tuple) or len(value) != 2 or not all(map(_whole, value)):
                raise SfumatoError(f"{name} is {value!r}; give two whole numbers, such as (1024, 1024)")
            if not least <= min(value) <= max(value) <= MAX_SIDE:
                raise SfumatoError(f"{name} is {value!r}; give two numbers from {least} to {MAX_SIDE}")
        if self.aesthetic_score is not None:
            if "aesthetic_score" not in known:
                raise SfumatoError(
                    f"{spec.title} is not conditioned on an aesthetic score (the XL refiner is); leave it out"
                )
            if not _number(self.aesthetic_score) or not 0 <= self.aesthetic_score <= MAX_SCORE:
                raise SfumatoError(
                    f"the aesthetic score is {self.aesthetic_score!r}; choose a number from 0 to {MAX_SCORE:g}"
                )
        if self.switch_at is not None:
            if refiner is None:
                raise SfumatoError("switch_at needs a refiner to switch to; give one, or leave switch_at out")
            if not _number(self.switch_at) or not 0 < self.switch_at < 1:
                raise SfumatoError(f"switch_at is {self.switch_at!r}; choose a number between 0 and 1, such as 0.8")


def _plain(value: Any) -> Any:
    """A number of numpy or torch as one of Python; all else as it is."""
    return value.item() if getattr(value, "ndim", None) == 0 else value


def _pair(value: Any) -> Any:
    """A list or an array as a tuple of plain numbers; all else as it is."""
    return tuple(map(_plain, value)) if isinstance(value, list | tuple | np.ndarray) else value


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> bool:
    return isinstance(value, float) or _whole(value)


@dataclass(frozen=True, eq=False)
class Way:
    """From noise to latents as settings say, whatever the words: the sampler on its list of noise levels.

    `shape` is that of one picture's latents (1, C, h, w).
    """

    sampler: Sampler
    table: Table
    sigmas: Tensor
    path: Path
    shape: tuple[int, int, int, int]
    device: torch.device

    @classmethod
    def of(cls, model: StableDiffusion, settings: Settings) -> Way:
        spec, sampler = model.spec, find_sampler(settings.sampler)
        sampler = replace(sampler, unit_start=sampler.unit_start or spec.unit_start)
        table = model.table_for(settings.width, settings.height)
        sigmas = sigma_list(settings.schedule, table, settings.steps)
        height, width = settings.height // spec.vae.factor, settings.width // spec.vae.factor
        shape = (1, spec.vae.latent_channels, height, width)
        return cls(sampler, table, sigmas, model.denoiser.path, shape, model.device)

    def job(self, guide: Guide, seed: int) -> Job:
        """The sampler at work on the noise of a seed."""
        stream = NoiseStream(seed, self.shape, self.device)
        x = first_latents(stream.normal(), self.sigmas, self.sampler, self.path)
        noise = BrownianPath(stream) if self.sampler.brownian else stream
        options = {"table": self.table} if self.sampler.timed else {}
        return self.sampler.run(guide, x, self.sigmas, self.path, noise, **options)

    def end(self, x: Tensor) -> Tensor:
        """What the job left, as the autoencoder takes it."""
        return last_latents(x, self.sigmas, self.sampler, self.path)


def txt2img(
    model: StableDiffusion, settings: Settings, refiner: StableDiffusion | None = None
) -> Generator[Progress | Picture, None, None]:
    """Draw `settings.n` pictures, with seeds seed, seed + 1 ...; yields every step and every finished picture.

    Where `settings.switch_at` says, the `refiner` goes on. Raises SfumatoError for a prompt that is too long, a clip
    skip that a model lacks, a refiner of other latents, or a model that needs a picture.
    """
    way = Way.of(model, settings)
    guide = guidance(model, settings, way.sigmas)
    if refiner is not None and settings.switch_at is not None:
        _check_latents(model, refiner)
        guide = switch_at(switch_level(way.table, settings.switch_at), guide, guidance(refiner, settings, way.sigmas))

    def finish(index: int, x: Tensor) -> Picture:
        seed = settings.seed + index
        image = decode(model.vae, way.end(x))
        if settings.watermark:
            image = marked(image)
        return Picture(index, image, seed, describe(model, settings, seed, refiner))

    jobs = [partial(way.job, guide, settings.seed + k) for k in range(settings.n)]
    at_once = pictures_at_once(settings.width, settings.height, model.device)
    return run(jobs, finish, lambda: model.preview_colours, at_once)


def guidance(model: StableDiffusion, settings: Settings, sigmas: Tensor) -> Guide:
    """How a model draws what the prompt says and not what the negative prompt says, over a list of noise levels."""
    prompt, negative = conditioning(model, settings)
    positive = plain(model.denoiser, prompt)
    guide = cfg(positive, plain(model.denoiser, negative), settings.cfg)
    skip, network = model.spec.skip_layers, model.denoiser.network
    if settings.slg and skip is not None and isinstance(network, MMDiT):
        worse = plain(replace(model.denoiser, network=without_layers(network, skip.layers)), prompt)
        guide = within(*skipping(skip, sigmas), away_from(guide, positive, worse, settings.slg), guide)
    return rescale(guide, positive, settings.cfg_rescale, model.denoiser.prediction)


def skipping(skip: SkipLayers, sigmas: Tensor) -> tuple[float, float]:
    """The lowest and the highest noise level of the steps at which layers are skipped; (0, -1) where there is none."""
    steps = len(sigmas) - 1
    levels = [sigma for i, sigma in enumerate(sigmas.tolist()) if skip.start * steps < i < skip.end * steps]
    return (levels[-1], levels[0]) if levels else (0.0, -1.0)


def switch_level(table: Table, share: float) -> float:
    """The noise level below which the refiner goes on after that share of the training times, counted from noise.

    Times, not steps: 0.8 of 1000 leaves it the times below 200, however many steps fall there, as diffusers'
    `denoising_end` and `denoising_start` have it.
    """
    times = len(table.sigmas)
    time = torch.tensor([min(round(times - share * times), times - 1)])
    return table.sigma(time).item() * (1 - 1e-9)  # a step at this very level, but for rounding, is the base's


def _check_latents(model: StableDiffusion, refiner: StableDiffusion) -> None:
    ours, theirs = (
        (one.spec.vae.latent_channels, one.spec.vae.factor, one.spec.vae.scale, one.spec.vae.shift, one.denoiser.path)
        for one in (model, refiner)
    )
    if ours != theirs:
        raise SfumatoError(
            f"{refiner.name} ({refiner.spec.title}) cannot go on from the latents of {model.name} "
            f"({model.spec.title}); give a refiner that was made for it"
        )


def conditioning(model: StableDiffusion, settings: Settings) -> list[Cond]:
    """The prompt and the negative prompt, with all else that the model is conditioned on."""
    spec = model.spec
    prompt, negative = model.encode([settings.prompt, settings.negative], settings.clip_skip)
    if spec.zero_negative and not settings.negative.strip():
        negative = negative.zeros()
    concat = _beside_latents(model, settings) if spec.backbone.in_channels > spec.vae.latent_channels else None
    return [
        replace(cond, ids=size_ids(spec, settings, score), concat=concat)
        for cond, score in ((prompt, settings.aesthetic_score), (negative, POOR))
    ]


def size_ids(spec: Spec, settings: Settings, score: float | None) -> Tensor | None:
    """The numbers (1, K) that condition an XL model on a picture's sizes and score; None for other models."""
    drawn = settings.width, settings.height
    numbers = {  # vertical before horizontal
        "original_size": (settings.original_size or drawn)[::-1],
        "crop": (settings.crop or (0, 0))[::-1],
        "target_size": (settings.target_size or drawn)[::-1],
        "aesthetic_score": (GOOD if score is None else score,),
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


def _nothing_to_keep(model: StableDiffusion, settings: Settings) -> Tensor:
    """What an inpainting model is told when all is to be drawn: a full mask, and the latents of a grey picture."""
    grey = torch.zeros(1, model.spec.vae.in_channels, settings.height, settings.width)
    latents = encode(model.vae, grey)
    return torch.cat([torch.ones_like(latents[:, :1]), latents], 1)


def first_latents(noise: Tensor, sigmas: Tensor, sampler: Sampler, path: Path = EXPLODING) -> Tensor:
    """Where sampling starts: pure noise of the first level, or of variance 1 + sigma^2 as the original DDIM has it."""
    sigma = sigmas[0].item()
    return noise * (math.sqrt(1 + sigma**2) if sampler.unit_start and path == EXPLODING else sigma)


def last_latents(x: Tensor, sigmas: Tensor, sampler: Sampler, path: Path = EXPLODING) -> Tensor:
    """Undo the scaling of `first_latents` where the list ends above zero, as the original DDIM's does."""
    return x / math.sqrt(1 + sigmas[-1].item() ** 2) if sampler.unit_start and path == EXPLODING else x


def marked(image: Image.Image) -> Image.Image:
    """With Stable Diffusion's invisible watermark, where the picture is large enough to hold it."""
    if watermark.capacity(image.height, image.width) < 8 * len(watermark.DEFAULT):
        return image
    return Image.fromarray(watermark.embed(np.asarray(image)))


def describe(
    model: StableDiffusion,
    settings: Settings,
    seed: int,
    refiner: StableDiffusion | None = None,
    further: Mapping[str, object] = MappingProxyType({}),
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
        "SLG Scale": settings.slg or None,
        "CFG Rescale": settings.cfg_rescale or None,
        "Original size": _by(settings.original_size),
        "Crop": _by(settings.crop),
        "Target size": _by(settings.target_size),
        "Aesthetic score": settings.aesthetic_score,
        "Refiner": None if refiner is None else f"{refiner.name} [{refiner.hash}]" if refiner.hash else refiner.name,
        "Refiner switch at": settings.switch_at,
        **further,
        "Version": f"sfumato {__version__}",
    }
    return infotext.write(settings.prompt, settings.negative, fields)


def _by(pair: Pair | None) -> str | None:
    return pair and f"{pair[0]}x{pair[1]}"
