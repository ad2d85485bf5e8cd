"""Trains a T2I-Adapter (Mou et al. 2023): a small network that reads a hint once, for all steps of drawing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from sfumato.data.pictures.protocol import SampleSource
from sfumato.errors import SfumatoError
from sfumato.files import atomic_write
from sfumato.loading.save import to_json
from sfumato.nets.controlnet import T2IAdapter
from sfumato.nets.unet import UNet
from sfumato.spec import T2IAdapterConfig
from sfumato.train.hints import HintTask, HintTraining, Steering
from sfumato.train.steering import write_control

CONFIG, FILE = "config.json", "diffusion_pytorch_model.safetensors"  # as diffusers calls them
PREFIX = "adapter."  # of the names in the file
FINE, COARSE = 8, 16  # squares of pixels that 1.x and 2.x, and XL take as channels


@dataclass(frozen=True, kw_only=True)
class T2IAdapterTraining(HintTraining):
    """Recipe of a T2I-Adapter, of so many small `blocks` a level; see also `HintTraining`."""

    blocks: int = 2

    def __post_init__(self) -> None:
        if self.blocks < 1:
            raise SfumatoError(f"blocks is {self.blocks}; expected a whole number from 1")


def make(
    cfg: T2IAdapterTraining, data: SampleSource, folder: Path, device: torch.device, *, model: str | None = None
) -> T2IAdapterTask:
    """Returns the task of a run in `folder`; the inputs are described in `train.registry`."""
    return T2IAdapterTask(replace(cfg, model=model or cfg.model), data, folder, device)


class Adapting(Steering):
    """A T2I-Adapter that learns, and the model that it steers."""

    def write(self, folder: Path, about: Mapping[str, str]) -> None:
        """Writes a folder as diffusers has it."""
        assert isinstance(self.control, T2IAdapter)
        cfg = self.control.control
        stated = {
            "_class_name": "T2IAdapter",
            "adapter_type": "full_adapter_xl" if cfg.unshuffle == COARSE else "full_adapter",
            "channels": list(cfg.channels),
            "downscale_factor": cfg.unshuffle,
            "in_channels": cfg.hint_channels,
            "num_res_blocks": cfg.blocks,
        }
        write_control(folder, self.control, self.cfg.hint, self.base, FILE, PREFIX)
        with atomic_write(folder / CONFIG) as file:
            file.write(to_json(stated))


class T2IAdapterTask(HintTask):
    """Trains a T2I-Adapter, see `HintTask`. Raises SfumatoError for a model without a U-Net."""

    cfg: T2IAdapterTraining

    @property
    def _multiple(self) -> int:
        return math.lcm(super()._multiple, COARSE)

    def _learnt(self) -> Adapting:
        network = self.base.denoiser.network
        if not isinstance(network, UNet):
            raise SfumatoError(f"{self.base.name} has no U-Net, which a T2I-Adapter steers; train a ControlNet")
        return Adapting(self.base, self.cfg, T2IAdapter(sizes(network, self.cfg.blocks)))


def sizes(network: UNet, blocks: int) -> T2IAdapterConfig:
    """Returns the sizes of an adapter for a U-Net: that of XL, whose first level does not attend, is another one."""
    channels = network.cfg.channels
    if network.cfg.depth[0]:
        return T2IAdapterConfig(channels, blocks, unshuffle=FINE, halves=tuple(i > 0 for i in range(len(channels))))
    channels = (*channels, channels[-1])
    return T2IAdapterConfig(channels, blocks, unshuffle=COARSE, halves=tuple(i == 2 for i in range(len(channels))))
