"""What methods share that train a variant: a model of which an adapter alone learns, its paths, its export."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from rich.progress import track
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from sfumato.adapt.lowrank import Adapter
from sfumato.api import StableDiffusion
from sfumato.checkpoint import variant
from sfumato.diffusion.cond import Cond
from sfumato.diffusion.driver import Failed, Finished, Step, drive
from sfumato.errors import SfumatoError
from sfumato.files import atomic_write
from sfumato.nets.unet import UNet
from sfumato.pipeline.conditioning import guidance
from sfumato.pipeline.load import load
from sfumato.pipeline.sampling import SamplingRun
from sfumato.settings.settings import Settings

ROWS = 128  # that share a call of a network
Tensors = dict[str, Tensor]


Condition = Literal["inpainting", "depth"]


class Variant:
    """The model `init`, of which an adapter alone learns; with a `condition` its network reads further channels.

    The further channels are those of `methods.concat`. They have zero weights at first, so that the variant starts by
    drawing what `base` draws. `adapter` is the file of an earlier variant, of this or another base, whose differences
    are the first ones. `network` computes with the adapter's differences, `model` draws with it. Raises SfumatoError
    for a model that is not a folder with a U-Net for plain latents.
    """

    def __init__(
        self,
        init: str,
        rank: int,
        device: torch.device,
        adapter: Path | None = None,
        condition: Condition | None = None,
    ):
        self.base = load(init, device, "float32")
        network, channels = self.base.denoiser.network, self.base.spec.vae.latent_channels
        if not isinstance(network, UNet) or network.cfg.in_channels != channels or not self.base.path.is_dir():
            raise SfumatoError(f"{init} is no folder of a model that draws from plain latents with a U-Net; give one")
        self.name = init if variant.place(init) == self.base.path else str(self.base.path.resolve())
        further = {"inpainting": 1 + channels, "depth": 1, None: 0}[condition]
        self.network = widened(network, further).to(device)
        self.adapter = Adapter(self.network, rank, whole=("conv_in.weight",) if further else ()).to(device)
        if adapter is not None:
            self._continue_from(adapter)
        base, denoiser = self.base, replace(self.base.denoiser, network=self.network)
        spec = replace(base.spec, unet=self.network.cfg)
        self.model = StableDiffusion(spec, denoiser, base.vae, base.encode, base.path)

    def tokens(self, prompts: Sequence[str]) -> Tensor:
        """Token ids (N, L); prompts beyond the text encoder's length are cut."""
        return self.base.encode.tokenizer(list(prompts))

    @torch.no_grad()
    def cond(self, ids: Tensor, concat: Tensor | None = None) -> Cond:
        """The conditioning of token ids (B, L), with further input channels `concat` (B, C, h, w)."""
        states = self.base.encode.towers[0](ids.to(self.base.device))
        return Cond(states.read(), states.vector, concat=concat)

    def export(self, path: Path, changes: variant.Changes, further: Mapping[str, Tensor]) -> None:
        """Writes the variant's file; `changes` and `further` tensors as in `checkpoint.variant.write`."""
        own = {f"unet/{name}": tensor for name, tensor in self.adapter.tensors().items()}
        variant.write(path, self.name, changes, own | dict(further))

    def _continue_from(self, file: Path) -> None:
        try:
            tensors = load_file(file)
            self.adapter.load({name.removeprefix("unet/"): tensor for name, tensor in tensors.items()})
        except (OSError, KeyError, RuntimeError, SafetensorError) as error:
            raise SfumatoError(
                f"{file} is no variant of this kind, these sizes and this rank; give what such a run exported"
            ) from error

    def kept(self, folder: Path, count: int, make: Callable[[int], Tensors]) -> Tensors:
        """The rows of `make(0)` to `make(count - 1)`, joined; each part is made once and kept in `folder`.

        The folder's name must name what they are made from.
        """
        parts = [_kept(folder / f"{k:05d}.safetensors", partial(make, k)) for k in track(range(count), folder.name)]
        return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def _kept(file: Path, make: Callable[[], Tensors]) -> Tensors:
    if not file.is_file():
        with atomic_write(file) as out:
            out.write(save({key: value.cpu().contiguous() for key, value in make().items()}))
    return load_file(file)


@torch.no_grad()
def paths(
    model: StableDiffusion,
    prompts: Sequence[str],
    seeds: Sequence[int],
    settings: Settings,
    concats: Sequence[Tensor | None] | None = None,
) -> Tensor:
    """Latents (N, S + 1, C, h, w) of N pictures at the S noise levels of `settings`, and finished.

    `concats` are the further input channels of each picture.
    """
    way = SamplingRun.of(model, settings)
    guides = [
        guidance(model, replace(settings, prompt=prompt, prompt_syntax="plain"), way.sigmas, concat)
        for prompt, concat in zip(prompts, concats or [None] * len(prompts), strict=True)
    ]
    seen: list[list[Tensor]] = [[] for _ in prompts]
    for n, event in drive([way.job(guide, seed) for guide, seed in zip(guides, seeds, strict=True)], ROWS):
        match event:
            case Step(x=x):
                seen[n].append(x)
            case Finished(x=x):
                seen[n].append(way.final_latents(x))
            case Failed(error=error):
                raise error
    return torch.stack([torch.cat(one) for one in seen])


def decoded(model: StableDiffusion, latents: Tensor) -> Tensor:
    """Pictures (N, 3, H, W) of latents (N, C, h, w)."""
    vae = model.vae
    return torch.cat([vae.decode(vae.from_latents(part.float())) for part in latents.split(16)])


def widened(network: UNet, further: int) -> UNet:
    """Returns a copy that takes `further` more input channels, with zero weights."""
    new = UNet(replace(network.cfg, in_channels=network.cfg.in_channels + further))
    state = network.state_dict()
    first = state["conv_in.weight"]
    new.load_state_dict(state | {"conv_in.weight": torch.cat([first, first.new_zeros(len(first), further, 3, 3)], 1)})
    return new.eval()
