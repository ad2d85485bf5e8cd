"""Makes what a network is conditioned on: prompts, sizes, and the picture that it works from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import torch
from PIL import Image
from torch import Tensor

from sfumato.diffusion.cond import Cond
from sfumato.diffusion.guidance import Guidance
from sfumato.diffusion.windows import Window
from sfumato.errors import SfumatoError
from sfumato.images.tensors import to_pixels
from sfumato.nets.layout import Region
from sfumato.nets.prior import Underlay
from sfumato.pipeline.controls import require_pictures
from sfumato.pipeline.guidance import guided
from sfumato.pipeline.hints import hint_picture, with_hints
from sfumato.pipeline.image_tokens import with_image_tokens
from sfumato.pipeline.latents import encode
from sfumato.pipeline.model import Model
from sfumato.pipeline.prompts import PromptConditioning, encode_prompts
from sfumato.pipeline.unclip import with_picture_vector
from sfumato.pipeline.underlay import filled_part
from sfumato.settings.settings import Settings
from sfumato.spec import Spec

GOOD, POOR = 6.0, 2.5  # aesthetic scores that the XL refiner takes for a prompt and of a negative one


def guidance(
    model: Model, one: Settings, sigmas: Tensor, concat: Tensor | None = None,
    underlay: Underlay | Region | None = None, after: int = 0,
) -> Guidance:  # fmt: skip
    """Returns the guidance of one picture, towards its prompt and away from its negative one, over noise levels.

    See `conditioning` for the arguments, and there and at `guided` for what is raised.
    """
    model = model.for_picture(one)
    return guided(model, one, sigmas, conditioning(model, one, sigmas, concat, underlay, after))


def conditioning(
    model: Model, one: Settings, sigmas: Tensor, concat: Tensor | None = None,
    underlay: Underlay | Region | None = None, after: int = 0,
) -> PromptConditioning:  # fmt: skip
    """Returns the conditioning of one picture over a list of noise levels, given its own settings (see `of_picture`).

    `concat` (1, Ci, h, w) is what a network that works from a picture sees beside the latents; None where there is no
    picture. `underlay` is a picture that is drawn on, for models with a prior, or the part of the picture that its
    things fill; without it they fill what the hint of a control fills. `after` is the number of steps of a first pass,
    if this is the second. Raises SfumatoError as `encode_prompts` and `with_hints`, and for a model that cannot do
    without a picture.
    """
    model, spec = model.for_picture(one), model.spec
    if underlay is None and model.prior is not None and one.control and one.control[0].hint != "inpaint":
        require_pictures(one.control)
        underlay = filled_part(hint_picture(one.control[0], model.depth, one.width, one.height))
    if concat is None and spec.beside_latents:
        concat = _concat_without_picture(model, one)
    scale = torch.tensor([one.cfg - 1]) if spec.embeds_guidance else None
    positive, negative = (
        partial(_with, ids=size_ids(spec, one, score), concat=concat, scale=scale)
        for score in (one.aesthetic_score, POOR)
    )
    prompts = encode_prompts(model, one, sigmas, underlay, after).map(positive, negative)
    prompts = with_picture_vector(model, one, prompts)
    prompts = with_hints(model, one, sigmas, adapted(model, one, sigmas, prompts))
    return with_image_tokens(model, one, sigmas, prompts)


def adapted(model: Model, one: Settings, sigmas: Tensor, prompts: PromptConditioning) -> PromptConditioning:
    """Adds to conditionings how much of each slot's adapter a picture gets (`Cond.adapters`), over noise levels."""
    slots = model.key.slots
    if not slots:
        return prompts
    uses, levels = model.adapters.uses(one), sigmas[:-1].tolist()
    columns = [[uses.count(use) * factor for factor in use.factors(sigmas)] for use in slots]
    rows = dict(zip(levels, zip(*columns, strict=True), strict=True))
    return prompts.over(levels, rows.__getitem__)


def _with(cond: Cond, ids: Tensor | None, concat: Tensor | None, scale: Tensor | None) -> Cond:
    """Adds sizes to a conditioning, and the channels beside the latents, after a prior's draft if there is one."""
    if concat is None:
        concat = cond.concat
    elif cond.concat is not None:
        concat = torch.cat([cond.concat, concat.to(cond.concat)], 1)
    return replace(cond, ids=ids, concat=concat, guidance=scale)


def size_ids(spec: Spec, settings: Settings, score: float | None) -> Tensor | None:
    """Returns the numbers (1, K) that condition an XL model on a picture's sizes and score; None for other models."""
    drawn = settings.width, settings.height
    numbers: dict[str, tuple[float, ...]] = {  # vertical before horizontal
        "original_size": (settings.original_size or drawn)[::-1],
        "crop": (settings.crop or (0, 0))[::-1],
        "target_size": (settings.target_size or drawn)[::-1],
        "aesthetic_score": (GOOD if score is None else score,),
    }
    return ids_of(spec, numbers)


def ids_of(spec: Spec, numbers: Mapping[str, tuple[float, ...]]) -> Tensor | None:
    """Returns `Cond.ids` (1, K) of the numbers by the names in `Spec.micro_conditioning`; None for other models."""
    values = [number for name in spec.micro_conditioning for number in numbers[name]]
    return torch.tensor([values], dtype=torch.float32) if values else None


def cond_of_window(spec: Spec, cond: Cond, window: Window) -> Cond:
    """Changes the sizes of a whole picture's conditioning (see `size_ids`) to those of a window of its latents."""
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


def _concat_without_picture(model: Model, settings: Settings) -> Tensor:
    """Returns the channels beside the latents for a network that works from a picture, where there is no picture."""
    if model.spec.low_res is not None:
        what = f"{model.name} is {model.spec.title}, which draws a picture larger and nothing from words alone"
        raise SfumatoError(f"{what}; use `sfumato upscale` or sd.upscale")
    if model.spec.edits:
        return _nothing(model, settings, model.spec.vae.latent_channels)
    if model.spec.depth is None:
        return _concat_of_full_mask(model, settings)
    return _nothing(model, settings, 1)  # depth runs from -1 to 1: a flat picture half way


def _nothing(model: Model, settings: Settings, channels: int) -> Tensor:
    factor = model.spec.vae.factor
    return torch.zeros(1, channels, settings.height // factor, settings.width // factor)


def editing(model: Model, image: Image.Image) -> Tensor:
    """What a network that changes an RGB picture sees of it: its latents (1, C, h, w) as the autoencoder has them."""
    return model.vae.from_latents(encode(model.vae, to_pixels(image)))


def _concat_of_full_mask(model: Model, settings: Settings) -> Tensor:
    """Returns what makes an inpainting model draw everything: a full mask, and the latents of a grey picture."""
    grey = torch.zeros(1, model.spec.vae.in_channels, settings.height, settings.width)
    latents = encode(model.vae, grey)
    return torch.cat([torch.ones_like(latents[:, :1]), latents], 1)
