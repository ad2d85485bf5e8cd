"""From settings to guides: how the estimates of a network are combined."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from sfumato.diffusion.cond import Cond
from sfumato.diffusion.driver import Score
from sfumato.diffusion.guidance import (
    EVERYWHERE,
    Guidance,
    Guide,
    apg,
    cfg,
    classifier_guidance,
    dynamic_threshold,
    gradient,
    in_interval,
    latent_threshold,
    push_away,
    rescale,
)
from sfumato.diffusion.interval import NOWHERE, Interval
from sfumato.errors import SfumatoError
from sfumato.nets.perturbed import middle_of
from sfumato.pipeline.model import Model, View
from sfumato.pipeline.prompts import PromptConditioning
from sfumato.settings.settings import Settings
from sfumato.spec import SkipLayers

Wrap = Callable[[Guide], Guide]
PICTURE_SCALE = 1.5  # that the authors of InstructPix2Pix advise


def guided(model: Model, settings: Settings, sigmas: Tensor, prompts: PromptConditioning) -> Guidance:
    """Returns the guides that settings ask for, over a list of noise levels, one inside the other.

    From within: classifier-free or projected guidance; towards the picture that is changed; away from the network
    without layers, then without self-attention; rescaled; thresholded; up the slope of CLIP's score; the
    guides of the user's own. Raises SfumatoError for layers that the network does not have.
    """
    p, n = prompts.positive_guide(model.denoiser), prompts.negative_guide(model.denoiser)
    interval = _levels(settings.cfg_interval, sigmas)
    wraps = [
        *_towards_picture(model, prompts, n),
        *_away_from_degraded(model, settings, sigmas, prompts, p),
        lambda guide: rescale(guide, p, settings.cfg_rescale, model.denoiser.prediction),
        *_thresholded(model, settings, p, n),
        *_towards_score(model, settings, sigmas, prompts),
    ]

    scale = 1.0 if model.spec.embeds_guidance else settings.cfg  # a network that takes the scale applies it itself

    def begin() -> Guide:
        if settings.apg:
            guide = apg(p, n, scale, settings.apg_eta, settings.apg_norm, settings.apg_momentum)
        else:
            guide = cfg(p, n, scale)
        guide = in_interval(*interval, guide, p)
        for wrap in wraps:
            guide = wrap(guide)
        for _, own in model.guides:
            guide = own(guide, p, n)
        return guide

    return Guidance(begin, in_interval(*interval, n, p) if settings.cfg_pp else None)


def _towards_picture(model: Model, prompts: PromptConditioning, negative: Guide) -> list[Wrap]:
    """Of a network that changes a picture: away from what it draws without seeing it.

    With n the estimate without words and e that without words and picture, g + (s - 1) (n - e), which is the sum of
    Brooks et al. 2023, equation 3, for their s_I = s.
    """
    if not model.spec.edits:
        return []
    blind = prompts.map(lambda cond: cond, without_picture).negative_guide(model.denoiser)
    return [lambda guide: push_away(guide, negative, blind, PICTURE_SCALE - 1)]


def without_picture(cond: Cond) -> Cond:
    """The conditioning with zeros in place of what is seen beside the latents."""
    return cond if cond.concat is None else replace(cond, concat=torch.zeros_like(cond.concat))


def _away_from_degraded(
    model: Model, settings: Settings, sigmas: Tensor, prompts: PromptConditioning, positive: Guide
) -> list[Wrap]:
    skip, wraps = model.spec.skip_layers, []

    def away(key: View, scale: float, levels: tuple[float, float]) -> Wrap:
        degraded = prompts.positive_guide(model.view(key).denoiser)
        return lambda guide: in_interval(*levels, push_away(guide, positive, degraded, scale), guide)

    if settings.slg and skip is not None:
        levels = skipping(skip, sigmas) if settings.slg_interval is None else _levels(settings.slg_interval, sigmas)
        wraps.append(away(replace(model.key, without_layers=skip.layers), settings.slg, levels))
    if settings.pag:
        layers = settings.pag_layers or middle_of(model.loaded.network)
        try:
            key = replace(model.key, without_self_attention=layers)
            wraps.append(away(key, settings.pag, _levels(settings.pag_interval, sigmas)))
        except ValueError as error:
            raise SfumatoError(f"perturbed-attention guidance: {error}") from error
    return wraps


def _thresholded(model: Model, settings: Settings, positive: Guide, negative: Guide) -> list[Wrap]:
    if not settings.threshold:
        return []
    share, limit, scale = settings.threshold / 100, settings.threshold_limit, settings.mimic_scale
    mimicked = cfg(positive, negative, model.spec.defaults.cfg if scale is None else scale)
    return [lambda guide: dynamic_threshold(guide, share, limit) if limit else latent_threshold(guide, mimicked, share)]


def _towards_score(model: Model, settings: Settings, sigmas: Tensor, prompts: PromptConditioning) -> list[Wrap]:
    if not settings.clip_guidance:
        return []
    first, _ = prompts.branches[0]
    slope = gradient(model.denoiser, first, clip_score(model, prompts.caption))
    levels, scale, path = _levels(settings.clip_interval, sigmas), settings.clip_guidance, model.denoiser.path
    return [lambda guide: in_interval(*levels, classifier_guidance(guide, slope, scale, path), guide)]


def _levels(interval: str | None, sigmas: Tensor) -> tuple[float, float]:
    return EVERYWHERE if interval is None else Interval.parse(interval).levels(sigmas)


def skipping(skip: SkipLayers, sigmas: Tensor) -> tuple[float, float]:
    """Returns the lowest and the highest noise level at which a model's authors skip layers, or `NOWHERE`."""
    steps = len(sigmas) - 1
    levels = [sigma for i, sigma in enumerate(sigmas.tolist()) if skip.start * steps < i < skip.end * steps]
    return (levels[-1], levels[0]) if levels else NOWHERE


def clip_score(model: Model, prompt: str) -> Score:
    """Returns a score of latents: the cosine of the perceptor's vectors of the decoded picture and of the prompt."""
    perceptor, weight = model.perceptor, model.vae.decoder.conv_in.weight
    caption = perceptor.encode_text([prompt]).to(model.device)

    def score(x0: Tensor) -> Tensor:
        latents = model.vae.from_latents(x0).to(weight.device, weight.dtype)
        seen = perceptor.encode_image(model.vae.decode(latents).float())
        return (seen * caption.clone()).sum(1)  # of one that was made where gradients may be off

    return score
