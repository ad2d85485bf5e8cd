"""Nodes that name files: models, parts of models, LoRAs, upscalers."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from sfumato.errors import SfumatoError
from sfumato.server.composite import Composite, with_encoders
from sfumato.server.kinds.graph.run import Run
from sfumato.server.kinds.graph.table import Choice, File, Number, node
from sfumato.server.kinds.graph.values import ClipRef, LoraUse, ModelRef, UpscalerRef, VaeRef

Strength = Annotated[float, Number(-100.0, 100.0, 0.01)]
LoraFile = Annotated[str, File(kinds=("lora",))]
TextFile = Annotated[str, File(kinds=("text encoder",))]
Device = Annotated[str, Choice(("default", "cpu"))]
DTYPES = ("default", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2")
KINDS = ("stable_diffusion", "sd3", "sdxl")


@node("CheckpointLoaderSimple", "loaders", light=True)
def checkpoint(ckpt_name: Annotated[str, File()]) -> tuple[ModelRef, ClipRef, VaeRef]:
    """A model with its text encoders and its autoencoder."""
    parts = Composite(ckpt_name)
    return ModelRef(parts), ClipRef(parts), VaeRef(parts)


def _parts(run: Run, name: str) -> Composite:
    if run.parts is None:
        raise SfumatoError(f"{name} is part of a model, but the graph loads none; add a UNETLoader or a checkpoint")
    return run.parts


@node("UNETLoader", "advanced/loaders", light=True)
def unet(
    run: Run, unet_name: Annotated[str, File()], weight_dtype: Annotated[str, Choice(DTYPES)] = "default"
) -> ModelRef:
    """A network that draws, put together with the text encoders and the autoencoder that the graph loads."""
    return ModelRef(_parts(run, unet_name))


@node("VAELoader", "loaders", light=True)
def vae(run: Run, vae_name: Annotated[str, File(kinds=("vae",))]) -> VaeRef:
    """An autoencoder from a file of its own, in the place of that of the graph's model."""
    return VaeRef(replace(_parts(run, vae_name), vae=vae_name))


@node("CLIPLoader", "advanced/loaders", light=True)
def clip(
    run: Run, clip_name: TextFile, type: Annotated[str, Choice(KINDS)] = "stable_diffusion",
    device: Device | None = None,
) -> ClipRef:  # fmt: skip
    """A text encoder from a file of its own."""
    return ClipRef(with_encoders(_parts(run, clip_name), clip_name))


@node("DualCLIPLoader", "advanced/loaders", light=True)
def dual_clip(
    run: Run, clip_name1: TextFile, clip_name2: TextFile, type: Annotated[str, Choice(KINDS[1:])] = "sdxl",
    device: Device | None = None,
) -> ClipRef:  # fmt: skip
    """Two text encoders from files of their own."""
    return ClipRef(with_encoders(_parts(run, clip_name1), clip_name1, clip_name2))


@node("TripleCLIPLoader", "advanced/loaders", light=True)
def triple_clip(run: Run, clip_name1: TextFile, clip_name2: TextFile, clip_name3: TextFile) -> ClipRef:
    """Three text encoders from files of their own, for 3 and 3.5."""
    return ClipRef(with_encoders(_parts(run, clip_name1), clip_name1, clip_name2, clip_name3))


@node("LoraLoader", "loaders", light=True)
def lora(
    model: ModelRef, clip: ClipRef, lora_name: LoraFile, strength_model: Strength = 1.0, strength_clip: Strength = 1.0
) -> tuple[ModelRef, ClipRef]:
    """Adds a LoRA to a network and to the text encoders."""
    clip = replace(clip, loras=(*clip.loras, LoraUse(lora_name, strength_clip)))
    return lora_model_only(model, lora_name, strength_model), clip


@node("LoraLoaderModelOnly", "loaders", light=True)
def lora_model_only(model: ModelRef, lora_name: LoraFile, strength_model: Strength = 1.0) -> ModelRef:
    """Adds a LoRA to a network alone."""
    return replace(model, loras=(*model.loras, LoraUse(lora_name, strength_model)))


@node("HypernetworkLoader", "loaders", light=True)
def hypernetwork(
    model: ModelRef, hypernetwork_name: Annotated[str, File(kinds=("hypernetwork",))], strength: Strength = 1.0
) -> ModelRef:
    """Adds a hypernetwork."""
    return replace(model, hypernetworks=(*model.hypernetworks, LoraUse(hypernetwork_name, strength)))


@node("CLIPSetLastLayer", "conditioning", light=True)
def last_layer(clip: ClipRef, stop_at_clip_layer: Annotated[int, Number(-24, -1)] = -1) -> ClipRef:
    """Says which layer of the text encoders is read, counted from the end."""
    return replace(clip, skip=stop_at_clip_layer)


@node("UpscaleModelLoader", "loaders", light=True)
def upscaler(model_name: Annotated[str, File(kinds=("upscaler",))]) -> UpscalerRef:
    """A network that enlarges pixels, of the ESRGAN kind."""
    return UpscalerRef(model_name)
