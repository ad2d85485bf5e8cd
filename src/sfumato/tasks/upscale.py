"""Draws a picture larger: by the x4 upscaler, which is made for it, or enlarged and drawn over by any model."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Unpack

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from sfumato.diffusion.guidance import Guidance
from sfumato.diffusion.process import diffused
from sfumato.diffusion.rng import NoiseStream
from sfumato.diffusion.windows import Window, windowed, windows
from sfumato.errors import OptionError
from sfumato.images.resize import padded
from sfumato.images.tensors import to_pixels
from sfumato.nets.prior import Underlay
from sfumato.pipeline.conditioning import adapted, cond_of_window, guidance
from sfumato.pipeline.depth import depth_of
from sfumato.pipeline.events import Events
from sfumato.pipeline.generate import Plan, generate, per_picture
from sfumato.pipeline.guidance import guided
from sfumato.pipeline.hints import on_picture
from sfumato.pipeline.latents import encode
from sfumato.pipeline.model import Model
from sfumato.pipeline.pixel_upscaling import large_size, resized
from sfumato.pipeline.prompts import encode_prompts
from sfumato.pipeline.sampling import SamplingRun
from sfumato.settings.option import options_in, written
from sfumato.settings.settings import Options, Settings
from sfumato.settings.task_options import UpscaleOptions
from sfumato.settings.tensors import NO_TENSORS
from sfumato.spec import Spec
from sfumato.tasks.request import Request, refuse

SCALE = 2.0
STRENGTH = 0.3  # adds detail and leaves what is there where it is
OVERLAP = UpscaleOptions.overlap
NOISE_LEVEL = 20  # as the authors of the x4 upscaler advise
WHOLE = 512  # pixels of a side of a small picture; the x4 upscaler draws more in windows
WINDOW = 256  # of such a window


def check_upscale(how: UpscaleOptions, spec: Spec) -> None:
    """Raises OptionError for what the model does not know."""
    if spec.low_res is None:
        if how.noise_level is not None:
            raise OptionError(f"{spec.title} has no `noise_level`; give a `strength` from 0 to 1")
        return
    if how.noise_level is not None and how.noise_level > spec.max_noise_level:
        raise OptionError(f"`noise_level` is {how.noise_level}; choose a whole number from 0 to {spec.max_noise_level}")
    if how.scale not in (None, spec.vae.factor):
        raise OptionError(f"{spec.title} draws {spec.vae.factor} times as large, not {how.scale}; leave `scale` out")
    for name, value in (("upscaler", how.upscaler), ("strength", how.strength)):
        if value is not None:
            raise OptionError(f"{spec.title} needs no `{name}`; leave it out")


def settings_of(
    spec: Spec,
    image: Image.Image,
    how: UpscaleOptions,
    prompt: str = "",
    negative: str = "",
    **options: Unpack[Options],
) -> Settings:
    """Settings for the large picture, whose size need not be one that the model draws at once.

    Raises SfumatoError as `Settings.of` and `check_upscale`, for a size in the options and a large one.
    """
    check_upscale(how, spec)
    if options.get("width") is not None or options.get("height") is not None:
        raise OptionError("the size of an enlarged picture follows from `scale`; leave `width` and `height` out")
    settings = Settings.of(spec, prompt, negative, **options)
    scale = spec.vae.factor if spec.low_res is not None else how.scale or SCALE
    width, height = large_size(image, scale)
    return replace(settings, width=width, height=height)


@dataclass(frozen=True, kw_only=True, eq=False)
class UpscaleRequest(Request):
    """An RGB picture drawn larger; see `upscale`."""

    image: Image.Image
    how: UpscaleOptions = field(default_factory=UpscaleOptions)

    def settings(self, spec: Spec) -> Settings:
        return settings_of(spec, self.image, self.how, self.prompt, self.negative, **self.options)

    def draw(self, model: Model, settings: Settings) -> Events:
        return upscale(model, self.image, settings, self.how)

    def record(self) -> dict[str, Any]:
        upscaler = None if self.how.upscaler is None else self.how.upscaler.name
        return {**vars(self.how), "upscaler": upscaler}


def upscale(model: Model, image: Image.Image, settings: Settings, how: UpscaleOptions) -> Events:
    """Draw a picture larger, `settings.n` times; yields steps and finished pictures.

    `settings` are those of `settings_of`. Raises SfumatoError for a prompt that is too long, a clip skip that the
    model lacks, and options that this task does not honour.
    """
    refuse(settings, "a picture is drawn larger", tensors=NO_TENSORS, hires_scale=None, tiling=None)
    if model.spec.low_res is not None:
        refuse(settings, "the x4 upscaler draws", control=())
    model = model.for_request(settings)
    plan = (_redrawn if model.spec.low_res is None else _four_times)(model, image, settings, how)
    return generate(model, settings, plan)


def _redrawn(model: Model, image: Image.Image, settings: Settings, how: UpscaleOptions) -> Plan:
    strength, size = STRENGTH if how.strength is None else how.strength, (settings.width, settings.height)
    large = resized(image, *size, how.upscaler)
    multiple = model.spec.multiple
    large = padded(large, 0, 0, -size[0] % multiple, -size[1] % multiple)
    drawn: dict[str, Any] = {"width": large.width, "height": large.height}
    run = SamplingRun.of(model, replace(settings, **drawn)).from_strength(strength)
    concat = None if model.depth is None else depth_of(model.depth, large, *run.shape[2:])
    init_latents = encode(model.vae, to_pixels(large))
    underlay = Underlay(init_latents, strength=strength)

    def guide(one: Settings) -> Guidance:
        one = on_picture(replace(one, **drawn), lambda control: control.on(large))
        return in_windows(model, one, guidance(model, one, run.sigmas, concat, underlay), how.overlap)

    named = "Lanczos" if how.upscaler is None else how.upscaler.name
    metadata = written(UpscaleOptions, UpscaleOptions(how.scale, named, strength, overlap=how.overlap))
    return Plan.of(
        model, run, guide, init_latents, postprocess=lambda image: image.crop((0, 0, *size)), metadata=metadata
    )


def in_windows(model: Model, settings: Settings, whole: Guidance, overlap: float = OVERLAP) -> Guidance:
    """Divides guidance into windows of the size that the model draws by itself; returns it unchanged if one is enough.

    A model that is conditioned on sizes gets those of each window as a crop of the whole picture.
    """
    spec = model.spec
    factor, step = spec.vae.factor, spec.multiple // spec.vae.factor
    size = settings.height // factor, settings.width // factor
    side = min(spec.defaults.width, spec.defaults.height) // factor
    if max(size) <= side:
        return whole
    shared = round(overlap * side / step) * step
    cut = windows(size, side, shared, step)
    return whole.through(lambda guide: windowed(guide, cut, shared, partial(cond_of_window, spec)))


@dataclass(frozen=True, eq=False, kw_only=True)
class LowResRun(SamplingRun):
    """The run of the x4 upscaler: a picture's first noise goes onto the small picture (1, 3, h, w) that it sees."""

    small: Tensor

    def noise_of_small(self, seed: int) -> Tensor:
        return NoiseStream(seed, self.shape, self.device, self.rng).normal(self.small.shape)

    def stream(self, seed: int) -> NoiseStream:
        stream = super().stream(seed)
        stream.normal(self.small.shape)
        return stream


def _four_times(model: Model, image: Image.Image, settings: Settings, how: UpscaleOptions) -> Plan:
    schedule = model.spec.low_res
    assert schedule is not None
    noise_level = NOISE_LEVEL if how.noise_level is None else how.noise_level
    small = filled(image, 2 ** (len(model.spec.unet.channels) - 1)).to(model.device)
    shape = (1, model.spec.vae.latent_channels, *small.shape[2:])
    run = LowResRun(**vars(replace(SamplingRun.of(model, settings), shape=shape)), small=small)
    cut: list[Window] = []
    if small.shape[2] * small.shape[3] > WHOLE**2:
        cut = windows(small.shape[2:], WINDOW, round(how.overlap * WINDOW))
    level = torch.tensor([noise_level])
    prompts = per_picture(
        model, lambda one: adapted(model, one, run.sigmas, encode_prompts(model.for_picture(one), one, run.sigmas))
    )

    def guide(one: Settings) -> Guidance:
        shown = diffused(small, run.noise_of_small(one.seed), level, schedule)
        add = partial(replace, ids=level[:, None], concat=shown)
        whole = guided(model.for_picture(one), one, run.sigmas, prompts(one).map(add, add))
        return whole.through(lambda guide: windowed(guide, cut, round(how.overlap * WINDOW))) if cut else whole

    plan = Plan.of(
        model,
        run,
        guide,
        postprocess=lambda image: image.crop((0, 0, settings.width, settings.height)),
        metadata={str(options_in(UpscaleOptions)["noise_level"].infotext): noise_level},
    )
    # What the network is shown has noise of the picture's own seed, so no two pictures share it.
    return replace(plan, job=lambda one: run.job(guide(one), one))


def filled(image: Image.Image, multiple: int) -> Tensor:
    """Returns the picture (1, 3, H, W) in [-1, 1], its last row and column repeated up to multiples of `multiple`."""
    right, below = -image.width % multiple, -image.height % multiple
    return F.pad(to_pixels(image), (0, right, 0, below), mode="replicate")
