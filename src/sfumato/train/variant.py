"""What the training of every variant shares: a model whose network learns by an adapter alone, and its export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from sfumato.adapt.lowrank import Adapter
from sfumato.errors import SfumatoError
from sfumato.model import StableDiffusion, load
from sfumato.nets.unet import UNet
from sfumato.weights import variant
from sfumato.weights.hashes import model_hash


class Variant:
    """The model `init` with `further` input channels, which begin at zero: at first it draws what the model draws.

    `network` computes with the adapter's differences; the model itself stays as it is. Raises SfumatoError for a model
    that is not a folder with a U-Net for plain latents.
    """

    def __init__(self, init: str, rank: int, further: int, device: torch.device):
        self.init = init
        self.model: StableDiffusion = load(init, device, "float32")
        network, channels = self.model.denoiser.network, self.model.spec.vae.latent_channels
        if not isinstance(network, UNet) or network.cfg.in_channels != channels or not self.model.path.is_dir():
            raise SfumatoError(f"{init} is no folder of a model that draws from plain latents with a U-Net; give one")
        self.network = grown(network, further).to(device)
        self.adapter = Adapter(self.network, rank, whole=("conv_in.weight",) if further else ()).to(device)
        self.denoiser = replace(self.model.denoiser, network=self.network)

    @property
    def base_hash(self) -> str:
        return model_hash(self.model.path) or ""

    def export(self, path: Path, changes: variant.Changes, further: Mapping[str, Tensor]) -> None:
        """Write the variant's file; `changes` and `further` tensors as in `weights.variant.write`."""
        base = self.init if variant.place(self.init) == self.model.path else str(self.model.path.resolve())
        own = {f"unet/{name}": tensor for name, tensor in self.adapter.tensors().items()}
        variant.write(path, base, changes, own | dict(further))


def grown(network: UNet, further: int) -> UNet:
    """A copy that takes `further` channels more, to which it pays no attention yet."""
    new = UNet(replace(network.cfg, in_channels=network.cfg.in_channels + further))
    state = network.state_dict()
    first = state["conv_in.weight"]
    new.load_state_dict(state | {"conv_in.weight": torch.cat([first, first.new_zeros(len(first), further, 3, 3)], 1)})
    return new
