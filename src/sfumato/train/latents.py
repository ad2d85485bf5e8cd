"""Latents of pictures, encoded once and kept in files that name what they were made from."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sfumato.data.protocol import Dataset, PictureList, TrainingSet
from sfumato.nets.vae import VAE
from sfumato.train.cache import ENCODER, add_weights
from sfumato.train.precision import bf16_pays
from sfumato.train.preparation import Tensors, prepared

CHUNK = 256  # pictures in a file
ROWS = 16  # pictures that are encoded side by side


def cached(folder: Path, pictures: PictureList, vae: VAE) -> Tensor:
    """Returns the latents (M, C, h, w) of all pictures, float16, of about unit variance.

    They are read from `folder`, or encoded and kept there under a name that hashes the encoder's weights and the
    pictures' fingerprint. So a change of either makes new files, and stale latents are never read. The encoder runs on
    the device of `vae`.
    """

    def make(numbers: range) -> Tensors:
        return {"latents": _encoded(vae, pictures.draw(np.array(numbers)))}

    place = folder / f"{pictures.name}-{_identity(pictures.fingerprint.encode(), vae)}"
    return prepared(place, len(pictures), make, CHUNK, f"encode {pictures.name}")["latents"]


def scene_latents(folder: Path, data: TrainingSet, vae: VAE, count: int, seed: int) -> Tensors:
    """Returns the first `count` scenes of a seed: `latents` (N, C, h, w), float16, and their labels.

    The labels are those of `data.protocol.LabelledScenes`. Files are kept in `folder` as in `cached`.
    """
    scenes = data.scenes(seed)

    def make(numbers: range) -> Tensors:
        return {"latents": _encoded(vae, scenes.draw(numbers))} | scenes.labels(numbers)

    return prepared(folder / f"scenes-{identity(data, vae, seed, CHUNK)}", count, make, CHUNK, "encode scenes")


def identity(data: Dataset, vae: VAE, *made_from: object) -> str:
    """Returns a hash of the data set, of the encoder's weights and of whatever else latents are made from."""
    return _identity(data.manifest, vae, *made_from)


def _identity(origin: bytes, vae: VAE, *made_from: object) -> str:
    digest = hashlib.sha256(origin)
    digest.update(repr((vae.cfg.scale, vae.cfg.shift, *made_from)).encode())
    add_weights(digest, {name: value for name, value in vae.state_dict().items() if name.startswith(ENCODER)})
    return digest.hexdigest()[:16]


@torch.no_grad()
def _encoded(vae: VAE, pictures: Tensor) -> Tensor:
    """Returns latents (N, C, h, w), float16, of pictures (N, 3, S, S) in [-1, 1]: the encoder's means, no noise."""
    device = next(vae.parameters()).device
    latents = []
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16_pays(device)):
        for part in pictures.contiguous(memory_format=torch.channels_last).split(ROWS):
            mean = vae.encode(part.to(device)).float().chunk(2, 1)[0]
            latents.append(vae.to_latents(mean).half().cpu())
    return torch.cat(latents).contiguous()
