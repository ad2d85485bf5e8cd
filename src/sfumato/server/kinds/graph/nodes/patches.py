"""Nodes that change how a network is used."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from sfumato.server.kinds.graph.table import Choice, Number, Switch, Text, node
from sfumato.server.kinds.graph.values import ModelRef
from sfumato.settings.speed import MAX_MERGED

Scale = Annotated[float, Number(0.0, 100.0, 0.01)]
Share = Annotated[float, Number(0.0, 1.0, 0.001)]
PREDICTIONS = {"eps": "eps", "v_prediction": "v", "lcm": "eps", "x0": "x0"}


@node("ModelSamplingDiscrete", "advanced/model", light=True)
def discrete(
    model: ModelRef,
    sampling: Annotated[str, Choice(tuple(PREDICTIONS))] = "eps",
    zsnr: Annotated[bool, Switch()] = False,
) -> ModelRef:
    """Says what a network predicts, and whether its noise levels end at pure noise."""
    parts = replace(model.parts, prediction=PREDICTIONS[sampling], zero_snr=zsnr or None)
    return replace(model, parts=parts)


@node("ModelSamplingSD3", "advanced/model", light=True)
def shifted(model: ModelRef, shift: Scale = 3.0) -> ModelRef:
    """Moves the noise levels of a flow towards noise."""
    return replace(model, shift=shift)


@node("RescaleCFG", "advanced/model", light=True)
def rescaled(model: ModelRef, multiplier: Annotated[float, Number(0.0, 1.0, 0.01)] = 0.7) -> ModelRef:
    """Brings the contrast that strong guidance makes back to that of a picture without it."""
    return model.but(cfg_rescale=multiplier)


@node("PerturbedAttentionGuidance", "model_patches/unet", light=True)
def perturbed(model: ModelRef, scale: Scale = 3.0) -> ModelRef:
    """Guides away from the network without self-attention in its middle."""
    return model.but(pag=scale)


@node("TomePatchModel", "model_patches/unet", light=True)
def merged(model: ModelRef, ratio: Annotated[float, Number(0.0, 1.0, 0.01)] = 0.3) -> ModelRef:
    """Lets attention merge a share of the places with others like them, at most all but one of four."""
    return model.but(token_merging=min(ratio, MAX_MERGED))


@node("SkipLayerGuidanceSD3", "advanced/guidance", light=True)
def skip_layers(
    model: ModelRef, layers: Annotated[str, Text()] = "7, 8, 9", scale: Scale = 3.0, start_percent: Share = 0.01,
    end_percent: Share = 0.15,
) -> ModelRef:  # fmt: skip
    """Guides away from the network without some layers, those that the model's authors advise."""
    return model.but(slg=scale, slg_interval=f"{start_percent:g}-{end_percent:g}")


@node("APG", "sampling/custom_sampling", light=True)
def projected(
    model: ModelRef, eta: Annotated[float, Number(-10.0, 10.0, 0.01)] = 1.0,
    norm_threshold: Annotated[float, Number(0.0, 50.0, 0.1)] = 5.0,
    momentum: Annotated[float, Number(-5.0, 1.0, 0.01)] = 0.0,
) -> ModelRef:  # fmt: skip
    """Guides by the part of the difference that does not lie along the picture (adaptive projected guidance)."""
    return model.but(apg=True, apg_eta=eta, apg_norm=norm_threshold, apg_momentum=momentum)


@node("DifferentialDiffusion", "_for_testing", light=True)
def differential(model: ModelRef, strength: Share | None = None) -> ModelRef:
    """Takes masks for the share of the steps in which a place is drawn, so that grey ones resemble the picture."""
    return replace(model, differential=True)
