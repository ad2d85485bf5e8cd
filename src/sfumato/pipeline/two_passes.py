"""Hires-fix: a picture drawn at the size that a model knows, enlarged, and drawn over at a larger one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor

from sfumato.diffusion.driver import Job, with_steps
from sfumato.diffusion.guidance import Guidance
from sfumato.hub.local_models import locate
from sfumato.images.tensors import to_pixels
from sfumato.loading.upscalers import PixelUpscaler, load_upscaler
from sfumato.pipeline.latents import decode, encode
from sfumato.pipeline.model import Model
from sfumato.pipeline.pixel_upscaling import resized
from sfumato.pipeline.sampling import SamplingRun
from sfumato.settings.option import written
from sfumato.settings.picture import HiresSettings
from sfumato.settings.settings import Settings

LATENT, LANCZOS = "latent", "lanczos"


@dataclass(frozen=True, eq=False)
class TwoPasses:
    """Two sampling runs, one after the other; between them `enlarged` makes the latents fit the second."""

    first: SamplingRun
    second: SamplingRun
    enlarged: Callable[[Tensor], Tensor]

    def job(self, guidance: Guidance, again: Guidance, one: Settings) -> Job:
        """Both passes of one picture, `again` being the guidance of the second. Both begin with the seed's noise."""
        steps = len(self.first.sigmas) - 1
        total = steps + len(self.second.sigmas) - 1
        x = yield from with_steps(self.first.job(guidance, one), lambda step: replace(step, total=total))
        start = self.enlarged(x)
        own = replace(one, variation_seed=None, tensors=replace(one.tensors, latents=None))
        second = self.second.job(again, own, start)
        return (yield from with_steps(second, lambda step: replace(step, index=steps + step.index, total=total)))


def find_upscaler(name: str, model: Model) -> PixelUpscaler | str:
    """Returns the upscaler that `hires_upscaler` names. Raises SfumatoError as `load_upscaler`."""
    known = name.lower() in (LATENT, LANCZOS)
    return name.lower() if known else load_upscaler(locate(name, "upscaler")[0], model.device)


def enlarged(model: Model, upscaler: PixelUpscaler | str, shape: tuple[int, int, int, int], x: Tensor) -> Tensor:
    """Latents (1, C, h, w) of a picture brought to another shape, bilinearly or by way of its pixels."""
    if upscaler == LATENT:
        return F.interpolate(x, size=shape[2:], mode="bilinear", align_corners=False)
    factor = model.spec.vae.factor
    pixels = upscaler if isinstance(upscaler, PixelUpscaler) else None
    image = resized(decode(model.vae, x), factor * shape[3], factor * shape[2], pixels)
    return encode(model.vae, to_pixels(image))


def hires_metadata(settings: Settings, upscaler: PixelUpscaler | str) -> dict[str, object]:
    """Returns the fields by which web UIs describe a second pass."""
    name = upscaler.name if isinstance(upscaler, PixelUpscaler) else upscaler.capitalize()
    return written(HiresSettings, replace(settings, hires_upscaler=name))
