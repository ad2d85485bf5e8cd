"""A hypernetwork, as AUTOMATIC1111's web UI trains them: small networks before keys and values of all attentions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sfumato.data.pictures.protocol import SampleSource
from sfumato.errors import SfumatoError
from sfumato.files import atomic_write
from sfumato.nets.hypernetwork import ACTIVATIONS, Hypernetwork, attention_widths, with_hypernetworks
from sfumato.nets.layers import Linear
from sfumato.nets.unet import UNet
from sfumato.pipeline.model import Model
from sfumato.train.fine_tuning import FineTuning, FineTuningTask
from sfumato.train.learnt import with_networks

DEVIATION = 0.01  # of the first weights, the web UI's "Normal"


@dataclass(frozen=True, kw_only=True)
class HypernetworkTraining(FineTuning):
    """Recipe of a hypernetwork, whose file is called `name`.

    `layers` are the widths of its layers, as multiples of what the attentions look at; it keeps the width, so the first
    and the last are 1. After each layer but the last comes the `activation`.
    """

    name: str = "hypernetwork"
    layers: tuple[float, ...] = (1, 2, 1)
    activation: str = "linear"

    def __post_init__(self) -> None:
        if len(self.layers) < 2 or self.layers[0] != 1 or self.layers[-1] != 1 or min(self.layers) <= 0:
            raise SfumatoError(f"layers is {list(self.layers)}; expected multiples that begin and end with 1")
        if self.activation not in ACTIVATIONS:
            raise SfumatoError(f"activation is {self.activation!r}; choose from {', '.join(sorted(ACTIVATIONS))}")


def make(
    cfg: HypernetworkTraining, data: SampleSource, folder: Path, device: torch.device, *, model: str | None = None
) -> HypernetworkTask:
    """Returns the task of a run in `folder`; the inputs are described in `train.registry`."""
    return HypernetworkTask(replace(cfg, model=model or cfg.model), data, folder, device)


class Before:
    """A hypernetwork that learns, and the model with it. Raises SfumatoError for a model without a U-Net."""

    def __init__(self, base: Model, cfg: HypernetworkTraining):
        self.base, self.cfg = base, cfg
        network = base.denoiser.network
        if not isinstance(network, UNet):
            raise SfumatoError(f"{base.name} has no U-Net, whose attentions a hypernetwork changes; train a LoRA")
        widths = sorted(attention_widths(network.cfg))
        keys, values = ({width: _stack(width, cfg) for width in widths} for _ in range(2))
        self.hypernetwork = Hypernetwork(keys, values)
        self.networks = nn.ModuleDict({"unet": self.hypernetwork})
        self.model = with_networks(base, with_hypernetworks(network, [(self.hypernetwork, 1.0)]), base.encode)

    def write(self, folder: Path, about: Mapping[str, str]) -> None:
        """Writes NAME.pt as the web UI does."""
        cfg, own = self.cfg, self.hypernetwork
        content: dict[Any, Any] = {
            width: (_state(own.keys[str(width)]), _state(own.values[str(width)])) for width in own.widths
        }
        content |= {
            "step": cfg.loop.steps, "name": cfg.name, "layer_structure": list(cfg.layers),
            "activation_func": cfg.activation, "is_layer_norm": False, "weight_initialization": "Normal",
            "activate_output": False, "use_dropout": False, "last_layer_dropout": False, "dropout_structure": None,
            "sd_checkpoint": about["ss_sd_model_hash"], "sd_checkpoint_name": about["ss_sd_model_name"],
        }  # fmt: skip
        with atomic_write(folder / f"{cfg.name}.pt") as file:
            torch.save(content, file)


class HypernetworkTask(FineTuningTask):
    """Trains a hypernetwork, see `FineTuningTask`."""

    cfg: HypernetworkTraining

    def _learnt(self) -> Before:
        return Before(self.base, self.cfg)


def _stack(width: int, cfg: HypernetworkTraining) -> nn.Sequential:
    """Layers that add nearly nothing at first."""
    sizes = [int(width * share) for share in cfg.layers]
    modules: list[nn.Module] = []
    for place, (inner, outer) in enumerate(pairwise(sizes)):
        linear = Linear(inner, outer)
        nn.init.normal_(linear.weight, std=DEVIATION)
        nn.init.zeros_(linear.bias)
        modules.append(linear)
        if cfg.activation != "linear" and place < len(sizes) - 2:
            modules.append(ACTIVATIONS[cfg.activation]())
    return nn.Sequential(*modules)


def _state(stack: nn.Module) -> dict[str, torch.Tensor]:
    return {f"linear.{name}": value.detach().cpu().clone() for name, value in stack.state_dict().items()}
