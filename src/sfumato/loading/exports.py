"""Single networks that a training run leaves: one safetensors file each, with the network's sizes in its header."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from sfumato.checkpoint.formats import safetensors_file
from sfumato.checkpoint.formats.fp8 import compact
from sfumato.checkpoint.open import open_checkpoint
from sfumato.errors import SfumatoError
from sfumato.nets.depth_net import DepthNet
from sfumato.nets.dual_encoder import CLIP
from sfumato.nets.image_tower import ImageTowerConfig
from sfumato.nets.vae import VAE
from sfumato.spec import CLIPTextConfig, DepthNetConfig, VAEConfig
from sfumato.text.tokenizer import CLIPTokenizer
from sfumato.typed import build

N = TypeVar("N", bound=nn.Module)

VAE_FILE, DEPTH_NET_FILE, CLIP_FILE = "vae.safetensors", "depth_net.safetensors", "clip.safetensors"


def write_export(
    path: Path, network: nn.Module, config: Mapping[str, Any], further: Mapping[str, Tensor] | None = None
) -> None:
    """Write all tensors of `network` and `further` ones, and `config` as JSON, to a file that is replaced at once or
    not at all."""
    tensors = network.state_dict() | dict(further or {})
    heads = {name: (tuple(value.shape), value.dtype) for name, value in sorted(tensors.items())}
    safetensors_file.write(path, heads, tensors.__getitem__, {"config": json.dumps(config)})


def read_export(folder: str | Path, file: str, command: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Returns the config and the tensors of an export that `sfumato train COMMAND` left as `file` in `folder`.

    Raises SfumatoError for a folder without it and for a file that is broken or holds no config.
    """
    path = Path(folder) / file
    if not path.is_file():
        raise SfumatoError(f"{folder} holds no {file}; give the export folder of `sfumato train {command}`")
    with open_checkpoint(path) as checkpoint:
        try:
            config = json.loads(checkpoint.metadata["config"])
        except (KeyError, ValueError) as error:
            raise SfumatoError(f"{path} does not say its sizes; give what `sfumato train {command}` left") from error
        # Names that begin like a model's part were opened as that part's folder.
        return config, {name.replace("/", "."): one.read().clone() for name, one in checkpoint.tensors.items()}


def load_vae(folder: str | Path) -> VAE:
    """Returns the autoencoder that `sfumato train vae` left in RUN/export, in evaluation mode on the CPU.

    Its `cfg` holds the measured scale. Raises SfumatoError for a folder without one.
    """
    config, tensors = read_export(folder, VAE_FILE, "vae")
    return filled(VAE(build(VAEConfig, config, f"{folder}/{VAE_FILE}")), tensors, f"{folder}/{VAE_FILE}")


def load_depth_net(folder: str | Path) -> DepthNet:
    """Returns the depth network that `sfumato train depth-net` left in RUN/export, in evaluation mode on the CPU.

    Raises SfumatoError for a folder without one.
    """
    config, tensors = read_export(folder, DEPTH_NET_FILE, "depth-net")
    where = f"{folder}/{DEPTH_NET_FILE}"
    return filled(DepthNet(build(DepthNetConfig, config, where)), tensors, where)


def filled(network: N, tensors: Mapping[str, Tensor], where: str) -> N:
    """Returns `network` with these weights, in evaluation mode and without gradients. Raises SfumatoError."""
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise SfumatoError(f"{where} does not hold the weights of the sizes that it names; export it again") from error
    return network.eval().requires_grad_(False)


def save_clip(folder: Path, network: CLIP, tokenizer: CLIPTokenizer, held_out: Sequence[str]) -> None:
    """Write both encoders and their tokenizer; `held_out` names the pictures that training did not see.

    Weights are stored as `fp8.compact` says.
    """
    config = {
        "text": dataclasses.asdict(network.text.cfg),
        "image": dataclasses.asdict(network.image.cfg),
        "embedding": network.classes.shape[1],
        "kinds": network.kinds,
        "held_out": list(held_out),
    }
    tokenizer.save(folder / "tokenizer")
    stored = {name: compact(value) for name, value in network.state_dict().items()}
    write_export(folder / CLIP_FILE, network, config, stored)


def load_clip(folder: str | Path) -> tuple[CLIP, CLIPTokenizer, frozenset[str]]:
    """Returns the encoders that `sfumato train clip` left in RUN/export, in evaluation mode, in float32 on the CPU;
    their tokenizer; and the pictures that training did not see, each "STYLE/CODE".

    Raises SfumatoError for a folder without them.
    """
    config, tensors = read_export(folder, CLIP_FILE, "clip")
    where = f"{folder}/{CLIP_FILE}"
    try:
        text = {name: value for name, value in config["text"].items() if value is not None}
        network = CLIP(
            build(CLIPTextConfig, text, where),
            build(ImageTowerConfig, config["image"], where),
            config["embedding"],
            config["kinds"],
        )
        held_out = frozenset(config["held_out"])
    except (KeyError, TypeError, AttributeError) as error:
        raise SfumatoError(f"{where} is of another version; train it again with `sfumato train clip`") from error
    return filled(network, tensors, where), CLIPTokenizer.from_folder(Path(folder) / "tokenizer"), held_out
