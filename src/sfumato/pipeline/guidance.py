"""How a network's answers are weighed: from settings to guides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sfumato.diffusion.driver import Score
from sfumato.diffusion.guidance import (
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
from sfumato.nets.mmdit import MMDiT
from sfumato.nets.perturbed import without_layers, without_self_attention
from sfumato.pipeline.prompts import PromptConditioning
from sfumato.settings.settings import Settings
from sfumato.spec import SkipLayers

if TYPE_CHECKING:
    from sfumato.api import StableDiffusion

Wrap = Callable[[Guide], Guide]
EVERYWHERE = (0.0, float("inf"))


def guided(model: StableDiffusion, settings: Settings, sigmas: Tensor, words: PromptConditioning) -> Guidance:
    """The guides that settings ask for, over a list of noise levels, one inside the other.

    From within: classifier-free or projected guidance; away from the network without layers, then without
    self-attention; rescaled; thresholded; up the slope of CLIP's score. Raises SfumatoError for layers that the network
    does not have.
    """
    p, n = words.positive(model.denoiser), words.away(model.denoiser)
    interval = _levels(settings.cfg_interval, sigmas)
    wraps = [
        *_away_from_worse(model, settings, sigmas, words, p),
        lambda guide: rescale(guide, p, settings.cfg_rescale, model.denoiser.prediction),
    ]
    if settings.threshold:
        share, limit, scale = settings.threshold / 100, settings.threshold_limit, settings.mimic_scale
        mimicked = cfg(p, n, model.spec.defaults.cfg if scale is None else scale)
        wraps.append(
            lambda guide: dynamic_threshold(guide, share, limit) if limit else latent_threshold(guide, mimicked, share)
        )
    if settings.clip_guidance:
        course, _ = words.branches[0]
        slope = gradient(model.denoiser, course, clip_score(model, words.caption))
        wraps.append(
            lambda guide: in_interval(
                *_levels(settings.clip_interval, sigmas),
                classifier_guidance(guide, slope, settings.clip_guidance, model.denoiser.path),
                guide,
            )
        )

    scale = 1.0 if model.spec.embeds_guidance else settings.cfg  # a network that is told the scale applies it itself

    def begin() -> Guide:
        if settings.apg:
            guide = apg(p, n, scale, settings.apg_eta, settings.apg_norm, settings.apg_momentum)
        else:
            guide = cfg(p, n, scale)
        guide = in_interval(*interval, guide, p)
        for wrap in wraps:
            guide = wrap(guide)
        return guide

    return Guidance(begin, in_interval(*interval, n, p) if settings.cfg_pp else None)


def _away_from_worse(
    model: StableDiffusion, settings: Settings, sigmas: Tensor, words: PromptConditioning, positive: Guide
) -> list[Wrap]:
    network, skip, wraps = model.denoiser.network, model.spec.skip_layers, []

    def away(worse: torch.nn.Module, scale: float, levels: tuple[float, float]) -> Wrap:
        other = words.positive(replace(model.denoiser, network=worse))
        return lambda guide: in_interval(*levels, push_away(guide, positive, other, scale), guide)

    if settings.slg and skip is not None and isinstance(network, MMDiT):
        usual = skipping(skip, sigmas) if settings.slg_interval is None else _levels(settings.slg_interval, sigmas)
        wraps.append(away(without_layers(network, skip.layers), settings.slg, usual))
    if settings.pag:
        try:
            blind = without_self_attention(network, settings.pag_layers or ())
        except ValueError as error:
            raise SfumatoError(f"perturbed-attention guidance: {error}") from error
        wraps.append(away(blind, settings.pag, _levels(settings.pag_interval, sigmas)))
    return wraps


def _levels(interval: str | None, sigmas: Tensor) -> tuple[float, float]:
    return EVERYWHERE if interval is None else Interval.parse(interval).levels(sigmas)


def skipping(skip: SkipLayers, sigmas: Tensor) -> tuple[float, float]:
    """The lowest and the highest noise level of the steps at which authors skip layers; `NOWHERE` if there is none."""
    steps = len(sigmas) - 1
    levels = [sigma for i, sigma in enumerate(sigmas.tolist()) if skip.start * steps < i < skip.end * steps]
    return (levels[-1], levels[0]) if levels else NOWHERE


def clip_score(model: StableDiffusion, prompt: str) -> Score:
    """How well a judge finds that latents, decoded, fit the prompt: the cosine of its two vectors."""
    judge, weight = model.judge, model.vae.decoder.conv_in.weight
    caption = judge.texts([prompt]).to(model.device)

    def score(x0: Tensor) -> Tensor:
        latents = model.vae.from_latents(x0).to(weight.device, weight.dtype)
        seen = judge.look(model.vae.decode(latents).float())
        return (seen * caption.clone()).sum(1)  # of one that was made where gradients may be off

    return score
