"""Pictures with the depth of a picture, in other words and colours (Stability AI's depth2img)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from PIL import Image

from sfumato.errors import SfumatoError
from sfumato.hub.local_models import EMBEDDED
from sfumato.images.resize import Resize, fitted, natural_size
from sfumato.images.tensors import to_pixels
from sfumato.pipeline.conditioning import guidance
from sfumato.pipeline.depth import depth_map, shown
from sfumato.pipeline.events import Events
from sfumato.pipeline.generate import Plan, generate
from sfumato.pipeline.hints import on_picture
from sfumato.pipeline.latents import encode
from sfumato.pipeline.model import Model
from sfumato.pipeline.sampling import SamplingRun
from sfumato.pipeline.underlay import near_part
from sfumato.settings.option import written
from sfumato.settings.settings import Settings, sized
from sfumato.settings.task_options import Depth2ImgOptions
from sfumato.spec import Spec
from sfumato.tasks.request import Request, refuse

STRENGTH = Depth2ImgOptions.strength


@dataclass(frozen=True, kw_only=True, eq=False)
class Depth2ImgRequest(Request):
    """Pictures of the depth of an RGB picture, or of a picture of `depth`; see `depth2img`."""

    image: Image.Image | None = None
    depth: Image.Image | None = None
    strength: float = STRENGTH
    resize: Resize = "crop"

    def settings(self, spec: Spec) -> Settings:
        shape = self.image or self.depth
        options = self.options if shape is None else sized(self.options, *natural_size(shape, spec))
        return Settings.of(spec, self.prompt, self.negative, **options)

    def draw(self, model: Model, settings: Settings) -> Events:
        return depth2img(model, self.image, settings, self.depth, self.strength, self.resize)

    def record(self) -> dict[str, Any]:
        return {"strength": self.strength, "resize": self.resize}

    def map(self, model: Model, settings: Settings) -> Image.Image:
        """Returns the depth map that the model is given, as a picture in which near is bright."""
        size, factor = (settings.width, settings.height), model.spec.vae.factor
        image, depth = (None if one is None else fitted(one, *size, self.resize) for one in (self.image, self.depth))
        return shown(depth_map(model, image, depth, (settings.height // factor, settings.width // factor)), *size)


def depth2img(
    model: Model,
    image: Image.Image | None,
    settings: Settings,
    depth: Image.Image | None = None,
    strength: float = STRENGTH,
    resize: Resize = "crop",
) -> Events:
    """Draw `settings.n` pictures of the depth of an RGB picture; yields every step and every finished picture.

    The depth is what the model's own network sees, or a picture of it in which the nearest is brightest. `strength` 1
    takes nothing but the depth, less keeps colours (see `img2img`). Without an `image` there is only the depth. Raises
    SfumatoError at once for a model that is not conditioned on depth, where neither picture is given, and for options
    that this task does not honour.
    """
    Depth2ImgOptions(strength, resize)
    refuse(settings, "pictures of a depth are drawn", hires_scale=None, tiling=None)
    model = model.for_request(settings)
    if model.spec.depth is None:
        raise SfumatoError(
            f"{model.name} is {model.spec.title}, which is not conditioned on depth; give a model that is, such as "
            f"{EMBEDDED}-depth or Stable Diffusion 2.0 depth"
        )
    if image is None:
        if depth is None:
            raise SfumatoError("there is nothing to take depth from; give a picture, or a picture of depth")
        strength = 1.0
    size = settings.width, settings.height
    start = None if image is None else fitted(image, *size, resize)
    settings = on_picture(settings, lambda control: control.on(start))
    run = SamplingRun.of(model, settings).from_strength(strength)
    concat = depth_map(model, start, None if depth is None else fitted(depth, *size, resize), run.shape[2:])
    init_latents = None if start is None else encode(model.vae, to_pixels(start))
    filled = None if model.prior is None else near_part(concat)  # things are laid out where the depth has them
    how = Depth2ImgOptions(strength, resize)
    metadata = {**written(Depth2ImgOptions, how), "Depth": "yes" if depth is None else "given"}
    plan = Plan.of(
        model, run, lambda one: guidance(model, one, run.sigmas, concat, filled), init_latents, metadata=metadata
    )
    return generate(model, settings, plan)
