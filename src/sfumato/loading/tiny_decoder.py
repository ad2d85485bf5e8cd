"""Tiny decoders from their files: as TAESD's author numbers the layers, or as diffusers' AutoencoderTiny does."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import torch

from sfumato.checkpoint.keymap import Shapes, rename
from sfumato.checkpoint.open import open_checkpoint
from sfumato.errors import SfumatoError
from sfumato.loading.load import fill_alone
from sfumato.nets.tiny_decoder import TinyDecoder
from sfumato.spec import Spec

# What stands before the numbers of a decoder's layers, and the number of the first one: TAESD counts the squeezing.
LAYOUTS = (("decoder.layers.", 0), ("taesd_decoder.", 1), ("decoder.", 1), ("", 1))
FOLDER_FILES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
KIND = "tiny decoder (TAESD or diffusers' AutoencoderTiny)"


def load_tiny_decoder(path: str | Path, spec: Spec, dtype: torch.dtype, device: torch.device) -> TinyDecoder:
    """Load the decoder of a file or of a diffusers folder; an encoder beside it is left alone.

    Raises SfumatoError for what is no such decoder, or one for other latents than the model's.
    """
    path = Path(path)
    if path.is_dir():
        path = next((path / name for name in FOLDER_FILES if (path / name).is_file()), path)
    with open_checkpoint(path) as checkpoint:
        for prefix, first in LAYOUTS:
            if f"{prefix}{first}.weight" in checkpoint.shapes:
                break
        else:
            raise SfumatoError(f"{path} is no {KIND}; give such a file")
        network = _built(checkpoint.shapes, prefix, first, str(path))
        factor, channels = spec.vae.factor, spec.vae.latent_channels
        if (network.factor, network.latent_channels) != (factor, channels):
            has = f"{network.latent_channels} channels of latents and {network.factor} pixels along a side of each"
            raise SfumatoError(f"{path} decodes {has}; {spec.title} has {channels} and {factor}: give another one")

        def theirs(name: str) -> str:
            number, rest = name.removeprefix("layers.").split(".", 1)
            return f"{prefix}{int(number) + first}.{rest}"

        within = {name: one for name, one in checkpoint.tensors.items() if _is_layer(name, prefix)}
        fill_alone(
            network, rename(network.state_dict(), theirs), replace(checkpoint, tensors=within), KIND, dtype, device
        )
    return network.eval().requires_grad_(False)


def _is_layer(name: str, prefix: str) -> bool:
    return re.match(rf"{re.escape(prefix)}\d+\.", name) is not None


def _built(shapes: Shapes, prefix: str, first: int, path: str) -> TinyDecoder:
    """The network that the shapes tell, on the meta device."""
    width, channels = shapes[f"{prefix}{first}.weight"][:2]
    numbers = sorted({int(name.removeprefix(prefix).split(".")[0]) for name in shapes if _is_layer(name, prefix)})
    blocks = [0]
    for number in numbers[1:-1]:
        if f"{prefix}{number}.conv.0.weight" in shapes:
            blocks[-1] += 1
        else:
            blocks.append(0)
    if len(numbers) < 3 or shapes.get(f"{prefix}{numbers[-1]}.weight", (0, 0))[:2] != (3, width):
        raise SfumatoError(f"{path} is no whole {KIND}; download it again")
    with torch.device("meta"):
        return TinyDecoder(channels, width, blocks)
