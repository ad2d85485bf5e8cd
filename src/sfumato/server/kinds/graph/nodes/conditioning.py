"""Nodes that make conditionings of texts, and combine them."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import torch

from sfumato.pipeline.latents import encode
from sfumato.server.kinds.graph.pixels import latent_mask, pixels_of
from sfumato.server.kinds.graph.run import Run
from sfumato.server.kinds.graph.table import Choice, Number, Switch, Text, node
from sfumato.server.kinds.graph.values import (
    Area,
    Beside,
    ClipRef,
    Conditioning,
    Images,
    Joined,
    Latent,
    Mask,
    Mixed,
    Part,
    VaeRef,
    Words,
    Zeroed,
    changed,
)

Lines = Annotated[str, Text(lines=True)]
Pixels = Annotated[int, Number(0, 16384, 8)]
Strength = Annotated[float, Number(0.0, 10.0, 0.01)]
Share = Annotated[float, Number(0.0, 1.0, 0.001)]


def _one(words: Words) -> Conditioning:
    return (Part(words),)


@node("CLIPTextEncode", "conditioning")
def text(text: Lines, clip: ClipRef) -> Conditioning:
    """A text, as the text encoders read it."""
    return _one(Words(clip, (text,)))


@node("CLIPTextEncodeSDXL", "advanced/conditioning")
def text_xl(
    clip: ClipRef, width: Pixels = 1024, height: Pixels = 1024, crop_w: Pixels = 0, crop_h: Pixels = 0,
    target_width: Pixels = 1024, target_height: Pixels = 1024, text_g: Lines = "", text_l: Lines = "",
) -> Conditioning:  # fmt: skip
    """Texts for the two encoders of XL, and the sizes that it is told."""
    sizes = (
        ("original_size", (width, height)),
        ("crop", (crop_w, crop_h)),
        ("target_size", (target_width, target_height)),
    )
    return _one(Words(clip, (text_l, text_g), sizes))


@node("CLIPTextEncodeSDXLRefiner", "advanced/conditioning")
def text_refiner(
    clip: ClipRef, ascore: Annotated[float, Number(0.0, 1000.0, 0.01)] = 6.0, width: Pixels = 1024,
    height: Pixels = 1024, text: Lines = "",
) -> Conditioning:  # fmt: skip
    """A text for the refiner of XL, with the size and the score that it is told."""
    return _one(Words(clip, (text,), (("aesthetic_score", ascore), ("original_size", (width, height)))))


@node("CLIPTextEncodeSD3", "advanced/conditioning")
def text_sd3(
    clip: ClipRef, clip_l: Lines, clip_g: Lines, t5xxl: Lines,
    empty_padding: Annotated[str, Choice(("none", "empty_prompt"))] = "none",
) -> Conditioning:  # fmt: skip
    """Texts for the three encoders of 3 and 3.5."""
    return _one(Words(clip, (clip_l, clip_g, t5xxl)))


@node("ConditioningCombine", "conditioning")
def combine(conditioning_1: Conditioning, conditioning_2: Conditioning) -> Conditioning:
    """Both, each by itself; the estimates under them are averaged."""
    return (*conditioning_1, *conditioning_2)


@node("ConditioningConcat", "conditioning")
def concat(conditioning_to: Conditioning, conditioning_from: Conditioning) -> Conditioning:
    """The words of one behind those of the other."""
    behind = conditioning_from[0].encoding
    return tuple(replace(part, encoding=Joined(part.encoding, behind)) for part in conditioning_to)


@node("ConditioningAverage", "conditioning")
def average(
    conditioning_to: Conditioning, conditioning_from: Conditioning, conditioning_to_strength: Share = 1.0
) -> Conditioning:
    """A mean of both encodings."""
    start = conditioning_from[0].encoding
    return tuple(
        replace(part, encoding=Mixed(part.encoding, start, conditioning_to_strength)) for part in conditioning_to
    )


@node("ConditioningZeroOut", "advanced/conditioning")
def zero_out(conditioning: Conditioning) -> Conditioning:
    """Zeros in place of the encoding."""
    return tuple(replace(part, encoding=Zeroed(part.encoding)) for part in conditioning)


@node("ConditioningSetArea", "conditioning")
def set_area(
    conditioning: Conditioning, width: Pixels = 64, height: Pixels = 64, x: Pixels = 0, y: Pixels = 0,
    strength: Strength = 1.0,
) -> Conditioning:  # fmt: skip
    """Counts in a rectangle only, given in pixels."""
    return changed(conditioning, area=Area(width, height, x, y), strength=strength)


@node("ConditioningSetAreaPercentage", "conditioning")
def set_area_share(
    conditioning: Conditioning, width: Share = 1.0, height: Share = 1.0, x: Share = 0.0, y: Share = 0.0,
    strength: Strength = 1.0,
) -> Conditioning:  # fmt: skip
    """Counts in a rectangle only, given in shares of the picture."""
    return changed(conditioning, area=Area(width, height, x, y, shares=True), strength=strength)


@node("ConditioningSetAreaStrength", "conditioning")
def set_strength(conditioning: Conditioning, strength: Strength = 1.0) -> Conditioning:
    """Counts more or less than others."""
    return changed(conditioning, strength=strength)


@node("ConditioningSetMask", "conditioning")
def set_mask(
    conditioning: Conditioning, mask: Mask, strength: Strength = 1.0,
    set_cond_area: Annotated[str, Choice(("default", "mask bounds"))] = "default",
) -> Conditioning:  # fmt: skip
    """Counts where a mask is, as strongly as the mask says."""
    cut = set_cond_area == "mask bounds"
    return changed(conditioning, mask=mask.shares[:1, None], mask_strength=strength, to_area=cut)


@node("ConditioningSetTimestepRange", "advanced/conditioning")
def set_range(conditioning: Conditioning, start: Share = 0.0, end: Share = 1.0) -> Conditioning:
    """Counts in a part of the times only, from 0, where all is noise, to 1."""
    return changed(conditioning, start=start, end=end)


@node("InpaintModelConditioning", "conditioning/inpaint", "positive", "negative", "latent")
def inpaint_model(
    run: Run, positive: Conditioning, negative: Conditioning, vae: VaeRef, pixels: Images, mask: Mask,
    noise_mask: Annotated[bool, Switch()] = True,
) -> tuple[Conditioning, Conditioning, Latent]:  # fmt: skip
    """Shows a network that inpaints the picture without what is masked, and takes the picture's latents to draw on."""
    model = run.model(vae.parts)
    image = pixels_of(pixels, model.vae.cfg.factor)
    share = latent_mask(mask, (image.shape[3], image.shape[2]))
    hidden = image.where(share < 0.5, 0.0)
    beside = Beside(encode(model.vae, hidden).cpu(), share)
    latent = Latent(encode(model.vae, image).cpu(), model.vae.cfg.factor, share if noise_mask else None)
    return changed(positive, beside=beside), changed(negative, beside=beside), latent


@node("InstructPixToPixConditioning", "conditioning/instructpix2pix", "positive", "negative", "latent")
def instruct(
    run: Run, positive: Conditioning, negative: Conditioning, vae: VaeRef, pixels: Images
) -> tuple[Conditioning, Conditioning, Latent]:
    """Shows a network that changes pictures the picture, and takes empty latents of its size to draw on."""
    model = run.model(vae.parts)
    factor = model.vae.cfg.factor
    image = pixels_of(pixels, factor)
    latents = encode(model.vae, image).cpu()
    whole = torch.ones(1, 1, *latents.shape[2:])
    beside = Beside(model.vae.from_latents(latents).cpu(), whole)
    empty = Latent(torch.zeros_like(latents), factor)
    return changed(positive, beside=beside), changed(negative, beside=beside), empty
