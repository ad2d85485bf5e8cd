"""Part of a picture drawn anew."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from sfumato.diffusion import guidance as guides
from sfumato.diffusion.guidance import Guidance
from sfumato.images.inputs import load_image
from sfumato.images.mask import edge, filled, from_picture, touched
from sfumato.images.region import Region
from sfumato.images.resize import fitted, natural_size
from sfumato.images.tensors import to_pixels
from sfumato.pipeline.conditioning import editing, guidance
from sfumato.pipeline.depth import depth_of
from sfumato.pipeline.events import Events
from sfumato.pipeline.generate import Plan, generate
from sfumato.pipeline.hints import Masked, on_picture
from sfumato.pipeline.latents import encode
from sfumato.pipeline.model import Model
from sfumato.pipeline.sampling import SamplingRun, steps_taken
from sfumato.pipeline.underlay import hole_of
from sfumato.settings.control import Control
from sfumato.settings.option import written
from sfumato.settings.settings import Pair, Settings, sized
from sfumato.settings.task_options import InpaintOptions
from sfumato.spec import Spec
from sfumato.tasks.request import Request, refuse


def drawn_size(how: InpaintOptions, spec: Spec, image: Image.Image) -> Pair:
    """Width and height that a picture is drawn at, if the user does not say."""
    if how.only_masked:
        return spec.defaults.width, spec.defaults.height
    return natural_size(image, spec, math.ceil)


@dataclass(frozen=True, kw_only=True, eq=False)
class InpaintRequest(Request):
    """Part of an RGB picture, white in `mask` (L), drawn anew; see `inpaint`."""

    image: Image.Image
    mask: Image.Image
    how: InpaintOptions = field(default_factory=InpaintOptions)

    def settings(self, spec: Spec) -> Settings:
        return Settings.of(
            spec, self.prompt, self.negative, **sized(self.options, *drawn_size(self.how, spec, self.image))
        )

    def draw(self, model: Model, settings: Settings) -> Events:
        return inpaint(model, self.image, self.mask, settings, self.how)

    def record(self) -> dict[str, Any]:
        return asdict(self.how)


@dataclass(frozen=True, eq=False, kw_only=True)
class MaskedSamplingRun(SamplingRun):
    """A sampling run in which places may change at and below the noise level `free_at` (1, 1, h, w).

    See `diffusion.guidance.inpaint`. With `by_channels` the network sees the mask, and nothing else keeps it from
    drawing outside. With `noisy` the places that may change begin with noise.
    """

    free_at: Tensor
    by_channels: bool = False
    noisy: bool = False

    def constrained(self, guidance: Guidance, noise: Tensor, init_latents: Tensor | None) -> Guidance:
        if init_latents is None or self.by_channels:
            return guidance
        return guidance.through(
            lambda guide: guides.inpaint(guide, init_latents, self.free_at, lambda sigma: noise, self.path)
        )

    def initial_latents(self, noise: Tensor, init_latents: Tensor | None) -> Tensor:
        x, level = super().initial_latents(noise, init_latents), self.sigmas[0].item()
        if self.from_noise:
            if init_latents is None or self.by_channels:
                return x
            return x.where(self.free_at.isinf(), self.path.noised(init_latents, noise, self.sigmas[:1]))
        if self.noisy and len(self.sigmas) > 1:  # noise on noise is noise of the sum of their variances
            return (math.hypot(self.path.alpha(level), level) * noise).where(self.free_at > 0, x)
        return x

    def final_latents(self, x: Tensor, init_latents: Tensor | None) -> Tensor:
        if init_latents is not None and not self.by_channels:  # lists that end above zero leave noise on what stays
            x = x.where(self.free_at > 0, init_latents)
        return super().final_latents(x, init_latents)


def inpaint(model: Model, image: Image.Image, mask: Image.Image, settings: Settings, how: InpaintOptions) -> Events:
    """Draw what is white in `mask` (L) anew in an RGB picture of the same size, `settings.n` times.

    Yields every step and every finished picture, in the size of the given one. What the mask leaves out comes back bit
    by bit; the watermark, too, lies only where something was drawn. A model that was made for it is shown mask and
    picture, any other is held to the picture at each noise level. Raises SfumatoError at once for a mask of another
    size or an empty one, for options that this task does not honour, and as `conditioning`.
    """
    refuse(settings, "part of a picture is drawn", hires_scale=None, tiling=None)
    model = model.for_request(settings)
    return generate(model, settings, plan(model, image, mask, settings, how))


def plan(model: Model, image: Image.Image, mask: Image.Image, settings: Settings, how: InpaintOptions) -> Plan:
    """Returns how part of a picture is drawn; see `inpaint`."""
    shares, drawn = from_picture(mask, *image.size, how.invert, how.grow), (settings.width, settings.height)
    soft_edge = edge(shares, how.blur)
    shares = shares * soft_edge
    if how.only_masked:
        region = Region.around(shares, how.padding, drawn)
    else:
        region = Region.whole(image.size, drawn, model.spec.multiple)
    old, part = region.cut(image), region.cut_mask(shares)
    run = _run(model, settings, how, part)
    init_latents = encode(model.vae, _before(old, part, how)).to(run.device)
    if how.start == "nothing":
        init_latents = init_latents.where(run.free_at == 0, 0)
    concat = _concat(model, old, part, run)
    goes_on = not settings.prompt.strip()
    underlay = None if model.prior is None else hole_of(model.vae, to_pixels(old), part, goes_on)
    weights = (soft_edge if how.soft else shares)[0, 0, :, :, None].numpy()

    def seen(control: Control) -> Control:
        """The part of a control's picture that lies where this one's is drawn."""
        if control.image is None:
            return control.on(Masked(old, part))
        own = load_image(control.image, f"the picture of the control {control.model}")
        return replace(control, image=region.cut(fitted(own, *image.size, control.resize)))

    def into(image: Image.Image, weights: np.ndarray, new: Image.Image) -> Image.Image:
        mixed = np.asarray(image) * (1 - weights) + np.asarray(new) * weights
        return Image.fromarray(mixed.round().astype(np.uint8))

    return Plan.of(
        model, run,
        lambda one: guidance(model, on_picture(one, seen), run.sigmas, concat, underlay), init_latents,
        postprocess=lambda new: into(image, weights, region.put(new, image)),
        restore_unmasked=lambda marked: into(image, weights > 0, marked),
        metadata=written(InpaintOptions, how),
    )  # fmt: skip


def _run(model: Model, settings: Settings, how: InpaintOptions, mask: Tensor) -> MaskedSamplingRun:
    whole = SamplingRun.of(model, settings)
    height, width = whole.shape[2:]
    if how.soft:
        steps = len(whole.sigmas) - 1
        most = max(how.strength * steps, steps_taken(how.strength, steps))  # where the mask is whole
        taken = (F.adaptive_avg_pool2d(mask, (height, width)) * most + 1e-4).long()
        free_at = whole.sigmas[steps - taken].float() * (1 + 1e-6)  # at the level itself, whatever the rounding
        free_at = free_at.where(taken > 0, 0).where(taken < steps, math.inf)
    else:
        free_at = torch.where(touched(mask, height, width), math.inf, 0.0)
    return MaskedSamplingRun(
        **vars(whole.from_strength(how.strength)),
        free_at=free_at.to(whole.device),
        by_channels=model.spec.inpaints and not how.soft,
        noisy=how.start == "noise",
    )


def _before(image: Image.Image, mask: Tensor, how: InpaintOptions) -> Tensor:
    """Returns the pixels (1, 3, H, W) that drawing starts on: the original only where a strength below 1 keeps some."""
    pixels = to_pixels(image)
    if how.start == "original" and how.strength < 1:
        return pixels
    hole = touched(mask, image.height, image.width)
    share = F.adaptive_avg_pool2d(mask, (image.height, image.width)) if how.soft else hole.float()
    return pixels.lerp(filled(pixels, hole), share)


def _concat(model: Model, image: Image.Image, mask: Tensor, run: SamplingRun) -> Tensor | None:
    """Returns the channels beside the latents (1, C, h, w): the mask and the picture outside it, or its depth."""
    if model.spec.inpaints:
        pixels = to_pixels(image)
        rest = encode(model.vae, pixels.where(~touched(mask, image.height, image.width), 0))
        return torch.cat([touched(mask, *run.shape[2:]).to(rest), rest], 1)
    if model.spec.edits:
        return editing(model, image)
    return None if model.depth is None else depth_of(model.depth, image, *run.shape[2:])
