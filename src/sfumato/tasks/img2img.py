"""Pictures from a picture and words (SDEdit, Meng et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from PIL import Image

from sfumato.images.resize import Resize, fitted, natural_size
from sfumato.images.tensors import to_pixels
from sfumato.nets.prior import Underlay
from sfumato.pipeline.conditioning import editing, guidance
from sfumato.pipeline.depth import depth_of
from sfumato.pipeline.events import Events
from sfumato.pipeline.generate import Plan, generate
from sfumato.pipeline.hints import on_picture
from sfumato.pipeline.latents import encode
from sfumato.pipeline.model import Model
from sfumato.pipeline.sampling import SamplingRun
from sfumato.settings.option import options_in, written
from sfumato.settings.settings import Settings, sized
from sfumato.settings.task_options import Img2ImgOptions
from sfumato.spec import Spec
from sfumato.tasks.request import Request, refuse

STRENGTH = Img2ImgOptions.strength


@dataclass(frozen=True, kw_only=True, eq=False)
class Img2ImgRequest(Request):
    """Pictures on top of an RGB picture; without a width or height they have its size, see `natural_size`."""

    image: Image.Image
    strength: float = STRENGTH
    resize: Resize = "crop"

    def settings(self, spec: Spec) -> Settings:
        return Settings.of(spec, self.prompt, self.negative, **sized(self.options, *natural_size(self.image, spec)))

    def draw(self, model: Model, settings: Settings) -> Events:
        return img2img(model, self.image, settings, self.strength, self.resize)

    def record(self) -> dict[str, Any]:
        return {"strength": self.strength, "resize": self.resize}


def img2img(
    model: Model, image: Image.Image, settings: Settings, strength: float = STRENGTH, resize: Resize = "crop"
) -> Events:
    """Draw `settings.n` pictures on top of an RGB picture; yields every step and every finished picture.

    `strength` is the share of the steps, counted from the end, that are taken: 0 gives the picture back as the
    autoencoder has it, more takes at least one step, 1 begins with noise alone as txt2img does. The picture is brought
    to the settings' size as `resize` says, see `fitted`. A model that is conditioned on depth takes that of the
    picture, and one that changes pictures (InstructPix2Pix) sees it: the prompt says what to change. Raises
    SfumatoError at once for a strength outside 0 to 1, an unknown way to resize, options that are those of txt2img
    alone, and as `conditioning`.
    """
    how = Img2ImgOptions(strength, resize)
    refuse(settings, "pictures on top of a picture are drawn", hires_scale=None)
    model = model.for_request(settings)
    start = fitted(image, settings.width, settings.height, resize)
    settings = on_picture(settings, lambda control: control.on(start))
    run = SamplingRun.of(model, settings).from_strength(strength)
    init_latents = encode(model.vae, to_pixels(start))
    concat = None if model.depth is None else depth_of(model.depth, start, *run.shape[2:])
    if model.spec.edits:
        concat = editing(model, start)
    return generate(
        model,
        settings,
        Plan.of(
            model,
            run,
            lambda one: guidance(model, one, run.sigmas, concat, Underlay(init_latents, strength=strength)),
            init_latents,
            metadata=written(Img2ImgOptions, how),
        ),
    )


def check_strength(strength: object) -> None:
    """Raises SfumatoError unless `strength` is a number from 0 to 1."""
    options_in(Img2ImgOptions)["strength"].checked(strength)
