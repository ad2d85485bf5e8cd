"""Writing a model as the folder of a diffusers StableDiffusionPipeline."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.errors import SfumatoError
from sfumato.families import family
from sfumato.files import atomic_write
from sfumato.spec import Spec
from sfumato.text.tokenizer import CLIPTokenizer
from sfumato.weights import configs, safetensors_file
from sfumato.weights.read import HABITS

TOKENIZER_FILES = ("vocab.json", "merges.txt", "special_tokens_map.json", "tokenizer_config.json", "tokenizer.json")

MODEL_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def save_folder(
    path: str | Path,
    spec: Spec,
    unet: nn.Module,
    vae: nn.Module,
    text: nn.Module,
    tokenizer_folder: str | Path | None = None,
    dtype: torch.dtype = torch.float32,
    max_file_size: int | None = None,
) -> None:
    """Write a model that diffusers' StableDiffusionPipeline (and `load_parts`) opens.

    `tokenizer_folder` None stands for CLIP's own vocabulary. `dtype` is that of the files. Weights beyond
    `max_file_size` bytes are split over several files. model_index.json is written last, so that a half-written folder
    is not taken for a model. Raises SfumatoError when the folder cannot be written, the model cannot be said in this
    layout, or a weight does not fit in `dtype`.
    """
    path = Path(path)
    folders = family(spec.family).layouts["diffusers"].prefixes
    plain = folders.keys() == {"unet", "vae", "text"} and spec.unet.in_channels == spec.vae.latent_channels
    if not plain or spec.unet.vector_dim is not None or spec.text.skip != 1:
        raise SfumatoError(f"{spec.title} cannot be written as a folder; this version writes 1.x and 2.x folders only")
    pixels = spec.defaults.width
    prediction = configs.scheduler_to(spec.prediction, spec.noise)
    components = {
        "unet": (unet, configs.unet_to(spec.unet, pixels // spec.vae.factor), "diffusion_pytorch_model"),
        "vae": (vae, configs.vae_to(spec.vae, pixels), "diffusion_pytorch_model"),
        "text": (text, configs.clip_to(spec.text), "model"),
    }
    for part, (network, config, stem) in components.items():
        folder = path / folders[part]
        _write_json(folder / "config.json", config)
        _write_weights(folder, stem, network.state_dict(), dtype, max_file_size)
    _write_json(path / "scheduler/scheduler_config.json", prediction)
    if tokenizer_folder is None:
        CLIPTokenizer.openai().save(path / "tokenizer")
    else:
        _copy_tokenizer(Path(tokenizer_folder), path / "tokenizer")
    _write_json(path / HABITS, dataclasses.asdict(spec.defaults))
    _write_json(path / "model_index.json", MODEL_INDEX)


def _write_weights(
    folder: Path, stem: str, state: Mapping[str, Tensor], dtype: torch.dtype, max_file_size: int | None
) -> None:
    def read(name: str) -> Tensor:
        tensor = state[name].detach().to("cpu", dtype)
        if tensor.numel() and not torch.stack(torch.aminmax(tensor)).isfinite().all():
            raise SfumatoError(f"the weight {name} is not finite in {dtype}; nothing usable can be written")
        return tensor

    shards = _split({name: tensor.numel() * dtype.itemsize for name, tensor in state.items()}, max_file_size)
    count = len(shards)
    names = [f"{stem}-{i + 1:05d}-of-{count:05d}.safetensors" for i in range(count)]
    if count == 1:
        names = [f"{stem}.safetensors"]
    for name, shard in zip(names, shards, strict=True):
        entries = {key: (tuple(state[key].shape), dtype) for key in shard}
        safetensors_file.write(folder / name, entries, read, {"format": "pt"})
    if count > 1:
        total = sum(tensor.numel() for tensor in state.values()) * dtype.itemsize
        places = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
        index = {"metadata": {"total_size": total}, "weight_map": places}
        _write_json(folder / f"{stem}.safetensors.index.json", index)


def _split(sizes: Mapping[str, int], limit: int | None) -> list[list[str]]:
    """Names in order, cut into runs whose files stay below the limit with their headers."""
    header = 256  # bytes a tensor's entry may take
    shards: list[list[str]] = [[]]
    filled = 0
    for name, size in sizes.items():
        if limit is not None and size + header > limit:
            raise SfumatoError(f"the weight {name} takes {size} bytes, more than a file may ({limit}); raise the limit")
        if limit is not None and filled + size + header > limit:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size + header
    return shards


def _copy_tokenizer(source: Path, target: Path) -> None:
    present = [name for name in TOKENIZER_FILES if (source / name).is_file()]
    if not {"vocab.json", "merges.txt"} <= set(present):
        raise SfumatoError(f"{source} holds no vocab.json and merges.txt; give the folder of a CLIP tokenizer")
    for name in present:
        with atomic_write(target / name) as file:
            file.write((source / name).read_bytes())


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    with atomic_write(path) as file:
        file.write((json.dumps(value, indent=2, sort_keys=True) + "\n").encode())
