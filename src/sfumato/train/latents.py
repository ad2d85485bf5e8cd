"""Latents of a whole picture set and of scenes, encoded once, in files that name what they were made from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from sfumato.data.captions import COLOURS
from sfumato.data.dataset import EmojiData, compose
from sfumato.data.emoji import MANIFEST
from sfumato.data.scenes import Scene, Scenes
from sfumato.files import atomic_write
from sfumato.nets.vae import VAE
from sfumato.seeding import stream

T = TypeVar("T")

UNNAMED = -1  # the plain white that captions do not mention


@dataclass(frozen=True, eq=False)
class Latents:
    """`latents` (N, V, C, h, w), about unit variance, float16: each picture on white, then on V-1 named colours.

    `colours` (N, V) are places in `captions.COLOURS`, UNNAMED in the first column.
    """

    latents: Tensor
    colours: Tensor


def cached(folder: Path, data: EmojiData, vae: VAE, backgrounds: int, seed: int, device: torch.device) -> Latents:
    """Read the latents from `folder`, or encode and keep them.

    The file's name is a hash of the encoder's weights, the data's manifest and the arguments, so a change of any of
    them makes a new file and stale latents cannot be read.
    """
    path = folder / f"latents-{identity(data, vae, backgrounds, seed)}.safetensors"
    if not path.is_file():
        made = _encode(data, vae.to(device), backgrounds, seed, device)
        with atomic_write(path) as file:
            file.write(save({"latents": made.latents, "colours": made.colours}))
        return made
    with safe_open(path, "pt") as file:
        return Latents(file.get_tensor("latents"), file.get_tensor("colours"))


def cached_scenes(folder: Path, scenes: Scenes, layouts: Sequence[Scene], vae: VAE, device: torch.device) -> Tensor:
    """Latents (N, C, h, w) of these layouts, float16, read from `folder` or encoded and kept there like `cached`."""
    drawn = [(s.rgb, [(p.picture, p.colour and p.colour.name, p.box, p.order) for p in s.objects]) for s in layouts]
    path = folder / f"scenes-{identity(scenes.data, vae, drawn)}.safetensors"
    if not path.is_file():
        made = _encode_scenes(scenes, layouts, vae.to(device), device)
        with atomic_write(path) as file:
            file.write(save({"latents": made}))
        return made
    with safe_open(path, "pt") as file:
        return file.get_tensor("latents")


def identity(data: EmojiData, vae: VAE, *made_from: object) -> str:
    """A hash of what latents are made from: the encoder's weights, the data's manifest and whatever else is named."""
    digest = hashlib.sha256((data.path / MANIFEST).read_bytes())
    digest.update(repr((vae.cfg.scale, vae.cfg.shift, *made_from)).encode())
    encoder = {name: value for name, value in vae.state_dict().items() if name.startswith(("encoder.", "quant_conv."))}
    for name, value in sorted(encoder.items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _shown(parts: Sequence[T], what: str) -> Iterable[T]:
    """The same, with a bar on stderr: tens of thousands of pictures take minutes."""
    return track(parts, what, console=Console(stderr=True), transient=True)


@torch.no_grad()
def _encode_scenes(scenes: Scenes, layouts: Sequence[Scene], vae: VAE, device: torch.device, rows: int = 64) -> Tensor:
    from sfumato.train.loop import bf16_pays

    parts = []
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16_pays(device)):
        for start in _shown(range(0, len(layouts), rows), "encode scenes"):
            x = torch.stack([scenes.draw(layout).picture for layout in layouts[start : start + rows]])
            mean = vae.encode(x.to(device)).float().chunk(2, 1)[0]
            parts.append(vae.to_latents(mean).half().cpu())
    return torch.cat(parts)


@torch.no_grad()
def _encode(data: EmojiData, vae: VAE, backgrounds: int, seed: int, device: torch.device, rows: int = 64) -> Latents:
    from sfumato.train.loop import bf16_pays

    side = data.size // vae.cfg.factor
    shape = (len(data), 1 + backgrounds, vae.cfg.latent_channels, side, side)
    latents = torch.empty(shape, dtype=torch.float16)
    rng = stream(seed, "backgrounds", 0)
    colours = torch.from_numpy(rng.permuted(np.tile(np.arange(len(COLOURS)), (len(data), 1)), axis=1)[:, :backgrounds])
    colours = torch.cat([torch.full((len(data), 1), UNNAMED), colours], 1)
    low, high = (torch.tensor([getattr(c, end) for c in COLOURS], dtype=torch.float32) for end in ("low", "high"))
    where = torch.from_numpy(rng.random((len(data), 1 + backgrounds, 3), np.float32))
    rgb = (low[colours] + where * (high - low)[colours]).round()
    rgb[colours == UNNAMED] = 255
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16_pays(device)):
        for numbers in _shown(torch.arange(len(data)).split(rows), "encode pictures"):
            rgba = torch.from_numpy(data.pictures(numbers.numpy())).to(device)
            for k in range(1 + backgrounds):
                mean = vae.encode(compose(rgba, rgb[numbers, k].to(device))).float().chunk(2, 1)[0]
                latents[numbers, k] = vae.to_latents(mean).half().cpu()
    return Latents(latents, colours)
