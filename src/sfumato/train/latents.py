"""Latents of pictures, encoded once, in files that name what they were made from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from rich.console import Console
from rich.progress import track
from safetensors.torch import load_file, save
from torch import Tensor

from sfumato.data.protocol import Dataset, PictureList
from sfumato.files import atomic_write
from sfumato.nets.vae import VAE
from sfumato.train.loop import bf16_pays

T = TypeVar("T")
ROWS = 64  # pictures that are encoded side by side


def cached(folder: Path, pictures: PictureList, vae: VAE, device: torch.device) -> Tensor:
    """Latents (M, C, h, w) of all pictures, about unit variance, float16: read from `folder`, or encoded and kept.

    The file's name is a hash of the encoder's weights and the pictures' fingerprint. So a change of either makes a new
    file, and stale latents cannot be read.
    """
    path = folder / f"{pictures.name}-{_identity(pictures.fingerprint.encode(), vae)}.safetensors"
    if not path.is_file():
        latents = _encode(pictures, vae.to(device), device)
        with atomic_write(path) as file:
            file.write(save({"latents": latents}))
        return latents
    return load_file(path)["latents"]


def identity(data: Dataset, vae: VAE, *made_from: object) -> str:
    """Returns a hash of the data set, of the encoder's weights and of whatever else latents are made from."""
    return _identity(data.manifest, vae, *made_from)


def _identity(origin: bytes, vae: VAE, *made_from: object) -> str:
    digest = hashlib.sha256(origin)
    digest.update(repr((vae.cfg.scale, vae.cfg.shift, *made_from)).encode())
    encoder = {name: value for name, value in vae.state_dict().items() if name.startswith(("encoder.", "quant_conv."))}
    for name, value in sorted(encoder.items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


@torch.no_grad()
def _encode(pictures: PictureList, vae: VAE, device: torch.device) -> Tensor:
    latents = []
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16_pays(device)):
        for numbers in _shown(torch.arange(len(pictures)).split(ROWS), f"encode {pictures.name}"):
            mean = vae.encode(pictures.draw(numbers.numpy()).to(device)).float().chunk(2, 1)[0]
            latents.append(vae.to_latents(mean).half().cpu())
    return torch.cat(latents)


def _shown(parts: Sequence[T], what: str) -> Iterable[T]:
    """The same, with a bar on stderr: tens of thousands of pictures take minutes."""
    return track(parts, what, console=Console(stderr=True), transient=True)
