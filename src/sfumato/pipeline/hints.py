"""Makes hints of pictures, and puts them into conditioning with the strengths that they have at each step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from sfumato.diffusion.cond import Cond, ScheduledCond
from sfumato.errors import SfumatoError
from sfumato.families.layouts.depth_net import DepthNetwork
from sfumato.hub.local_models import locate
from sfumato.images.control import PICTURE_HINTS
from sfumato.images.control.lines import normals
from sfumato.images.files import on_white
from sfumato.images.inputs import load_image, load_mask, load_rgba
from sfumato.images.resize import fitted
from sfumato.images.tensors import to_pixels
from sfumato.loading.controls import UNION_KINDS, ControlModel
from sfumato.loading.load import load_parts
from sfumato.nets.controlled import Control as ControlNetwork
from sfumato.nets.controlled import Controlled
from sfumato.nets.controlnet import ControlNet, MMDiTControlNet, Prepared
from sfumato.pipeline.controls import require_pictures
from sfumato.pipeline.depth import depth_of, shown
from sfumato.pipeline.latents import encode
from sfumato.pipeline.model import Model
from sfumato.pipeline.prompts import PromptConditioning
from sfumato.settings.control import HINTS, SHOWS, Control
from sfumato.settings.settings import Settings

State = TypeVar("State")
assert SHOWS == UNION_KINDS
PIXELS = 8  # of a hint along a side, for each of the latents
# What a ControlNet-Union is told of the hints that are made here.
SHOWN = {
    "canny": "edges", "lineart": "edges", "gradient": "soft edge", "scribble": "soft edge", "depth": "depth",
    "normal": "normal", "tile": "tile", "segmentation": "segmentation", "inpaint": "inpaint",
}  # fmt: skip
OTHER_PARTS = ("unet", "transformer", "vae", "text", "text_2", "text_3", "prior")
DEPTH_MODELS = "(`depth_model`, --depth-model), such as Stable Diffusion 2.0 depth"


@dataclass(frozen=True, eq=False)
class Masked:
    """A picture of which `mask` (1, 1, H, W), 1 where all is new, is to be drawn."""

    image: Image.Image
    mask: Tensor


def on_picture(settings: Settings, change: Callable[[Control], Control]) -> Settings:
    """The settings with changed controls; the same where there are none."""
    return replace(settings, control=tuple(map(change, settings.control))) if settings.control else settings


def with_hints(model: Model, one: Settings, sigmas: Tensor, prompts: PromptConditioning) -> PromptConditioning:
    """Adds the hints of a picture's controls to its conditioning, over a list of noise levels.

    `model` is the view with these controls. Raises SfumatoError for a picture that is missing or cannot be read, and
    for strengths of another number than the network has blocks.
    """
    if not model.key.controls:
        return prompts
    require_pictures(one.control)
    networks = controlled_network(model).controls
    hints: list[Tensor] = []
    strengths: list[Tensor] = []
    for control, loaded, network in zip(one.control, model.controls, networks, strict=True):
        hints += _prepared(model, control, loaded, network, one)
        try:
            strengths.append(torch.tensor([control.strengths(loaded.network.residuals)]))
        except ValueError as error:
            raise SfumatoError(str(error)) from None
    steps = len(sigmas) - 1
    active = [tuple(control.steers(step, steps) for control in one.control) for step in range(steps)]
    changes = [step for step in range(steps) if step == 0 or active[step] != active[step - 1]]
    levels, states = [sigmas[step].item() for step in changes], [active[step] for step in changes]

    def hinted(cond: Cond, state: Sequence[bool], negative: bool) -> Cond:
        silent = [not on or (negative and c.mode == "control") for on, c in zip(state, one.control, strict=True)]
        weights = tuple(w * 0 if off else w for w, off in zip(strengths, silent, strict=True))
        return replace(cond, hints=tuple(hints), hint_weights=weights)

    positive, negative = (partial(hinted, negative=which) for which in (False, True))
    return PromptConditioning(
        tuple((over_levels(scheduled, levels, states, positive), weight) for scheduled, weight in prompts.branches),
        over_levels(prompts.negative, levels, states, negative),
        prompts.caption,
    )


def controlled_network(model: Model) -> Controlled:
    """The network of a view with controls."""
    network = model.denoiser.network
    assert isinstance(network, Controlled)
    return network


def over_levels(
    scheduled: ScheduledCond,
    levels: Sequence[float],
    states: Sequence[State],
    change: Callable[[Cond, State], Cond],
) -> ScheduledCond:
    """Conditioning that changes when it did and at the `levels`, where it comes into each of the `states`."""
    if len(states) <= 1:
        return scheduled.map(lambda cond: change(cond, states[0])) if states else scheduled
    every = sorted({*scheduled.levels, *levels}, reverse=True)
    made: dict[tuple[int, int], Cond] = {}
    conds = []
    for level in every:
        cond, place = scheduled.at(level), max(0, sum(one >= level for one in levels) - 1)
        if (id(cond), place) not in made:
            made[id(cond), place] = change(cond, states[place])
        conds.append(made[id(cond), place])
    return ScheduledCond(tuple(every), tuple(conds))


@torch.no_grad()
def _prepared(model: Model, control: Control, loaded: ControlModel, network: nn.Module, one: Settings) -> Prepared:
    """What a control's network makes of its hint, with one row."""
    weight = next(network.parameters())
    assert isinstance(network, ControlNetwork)
    hint = hint_input(model, control, network, one.width, one.height, loaded.shift, loaded.canny)
    return network.prepare(hint.to(weight.device, weight.dtype), _kind(control, loaded, network))


def hint_input(
    model: Model, control: Control, network: ControlNetwork, width: int, height: int, shift: bool = True,
    canny: bool = False,
) -> Tensor:  # fmt: skip
    """What a control's network is given of its hint, (1, C, H, W): its pixels, or for a transformer's its latents.

    `width` and `height` are those of the drawn picture, `shift` and `canny` as in `ControlModel`. A transformer's for
    inpainting sees a mask besides. Raises SfumatoError as `hint_picture`.
    """
    vae = model.spec.vae
    if not isinstance(network, MMDiTControlNet):
        return hint_pixels(model, control, PIXELS * (width // vae.factor), PIXELS * (height // vae.factor))
    if network.control.hint_channels == vae.latent_channels + 1:
        return _masked_latents(model, control, width, height)
    pixels = hint_pixels(model, control, width, height)
    latents = encode(model.vae, pixels * 255 * 0.5 + 0.5 if canny else pixels * 2 - 1)
    return latents if shift else latents + vae.shift * vae.scale


def _masked_latents(model: Model, control: Control, width: int, height: int) -> Tensor:
    """The latents of a picture whose places that are to be drawn are black, and a mask that is 1 where it stays."""
    if control.hint != "inpaint":
        raise SfumatoError(f"{control.model} is for inpainting; give it there with hint=inpaint, and no picture")
    latents = encode(model.vae, (hint_pixels(model, control, width, height) * 2 - 1).clamp(min=-1))
    mask = F.interpolate(_masked(control).mask.float(), (height, width), mode="nearest")
    return torch.cat([latents, 1 - F.interpolate(mask, latents.shape[2:], mode="nearest").to(latents)], 1)


def _masked(control: Control) -> Masked:
    """The picture of a control for inpainting, and what of it is new: by a task's mask, else what is transparent."""
    if isinstance(control.image, Masked):
        return control.image
    image = load_rgba(control.image, f"the picture of the control {control.model}")
    if image.mode != "RGBA":
        raise SfumatoError(
            "the hint inpaint takes the picture and mask of inpainting; give it there without a picture, or one whose "
            "transparent part is to be drawn"
        )
    part = torch.from_numpy(np.array(load_mask(image))) > 127
    return Masked(on_white(image), part[None, None].float())


def _kind(control: Control, loaded: ControlModel, network: nn.Module) -> int | None:
    """The number of a ControlNet-Union's kind of hint; None for other networks."""
    if not isinstance(network, ControlNet) or not network.control.kinds:
        return None
    shows = control.shows or SHOWN.get(control.hint)
    known = UNION_KINDS[: network.control.kinds]
    if shows not in known:
        raise SfumatoError(
            f"{loaded.name} is {loaded.title} and must be told what its hint shows; give `shows` as one of "
            f"{', '.join(known)}"
        )
    return known.index(shows)


def hint_pixels(model: Model, control: Control, width: int, height: int) -> Tensor:
    """A control's hint (1, 3, H, W) in [0, 1]; places that are to be drawn anew are -1 for hints of "inpaint"."""
    if control.hint == "inpaint":
        seen = _masked(control)
        pixels = to_pixels(fitted(seen.image, width, height, "stretch")) / 2 + 0.5
        return pixels.where(F.interpolate(seen.mask.float(), (height, width), mode="nearest") <= 0, -1.0)
    return to_pixels(hint_picture(control, model.depth, width, height)) / 2 + 0.5


def hint_picture(control: Control, depth: DepthNetwork | None, width: int, height: int) -> Image.Image:
    """The picture that a control's network is shown, at a size in pixels.

    `depth` is the model's own network that sees depth, if any. Raises SfumatoError for a picture that cannot be read,
    and for a hint of depth where nothing sees it.
    """
    image = control.image.image if isinstance(control.image, Masked) else control.image
    image = load_image(image, f"the picture of the control {control.model}")
    # Colours that stand for things must not mix.
    method = Image.Resampling.NEAREST if control.hint == "segmentation" else Image.Resampling.LANCZOS
    return make_hint(control.hint, fitted(image, width, height, control.resize, method), control.depth_model, depth)


def make_hint(
    kind: str, image: Image.Image, depth_model: str | None = None, depth: DepthNetwork | None = None
) -> Image.Image:
    """The hint of a kind, of an RGB picture, in its size; see `hint_picture`.

    Depth is seen by the network of the model `depth_model`, else by `depth`. Raises SfumatoError for other kinds, and
    where neither is given.
    """
    if kind in PICTURE_HINTS:
        return PICTURE_HINTS[kind](image)
    if kind not in ("depth", "normal"):
        raise SfumatoError(f"a hint {kind!r} cannot be made of a picture alone; choose one of {', '.join(HINTS[:-1])}")
    if depth_model is None and depth is None:
        raise SfumatoError(f"a hint {kind!r} needs a network that sees depth; name a model that has one {DEPTH_MODELS}")
    network = depth if depth_model is None else load_depth(depth_model)
    assert network is not None
    seen = depth_of(network, image, image.height, image.width)
    if kind == "depth":
        return shown(seen, *image.size)
    return normals((seen[0, 0].cpu().numpy() + 1) / 2)


@lru_cache(maxsize=1)
def load_depth(name: str) -> DepthNetwork:
    """The depth network of a model that has one, such as MiDaS of Stable Diffusion 2.0 depth.

    Raises SfumatoError for a model without.
    """
    parts = load_parts(locate(name)[0], without=OTHER_PARTS)
    if parts.depth is None:
        raise SfumatoError(
            f"{name} is {parts.spec.title}, which has no depth network; give one that has {DEPTH_MODELS}"
        )
    return parts.depth
