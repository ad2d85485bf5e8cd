"""Complete little models of every release: its features and its names, random weights, a megabyte or two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from functools import singledispatch
from pathlib import Path

import torch
from torch import Tensor, nn

from sfumato.checkpoint.formats import safetensors_file
from sfumato.families import Family
from sfumato.loading.save import save_folder
from sfumato.spec import (
    ID_WIDTH,
    CLIPTextConfig,
    CLIPVisionConfig,
    Defaults,
    DepthNetConfig,
    DPTConfig,
    MMDiTConfig,
    NoiseSchedule,
    PriorConfig,
    SkipLayers,
    Spec,
    T5Config,
    UNetConfig,
    VAEConfig,
)
from sfumato.text.tokenizer import CLIPTokenizer

WORDS = CLIPTokenizer.train(["a red heart", "a blue cat"] * 9, 600)
# How many numbers one of Spec.micro_conditioning stands for.
IDS = {"original_size": 2, "crop": 2, "target_size": 2, "aesthetic_score": 1}


@singledispatch
def smaller(config: object) -> object:
    """A network with the features of `config` and a fraction of its size. Every kind of network registers its own."""
    raise TypeError(f"nobody has said how to shrink a {type(config).__name__}; register it in tests/tiny")


@smaller.register
def _(config: UNetConfig) -> UNetConfig:
    return replace(
        config,
        channels=(64, 64, 128),
        blocks=1,
        depth=tuple(min(depth, 2) for depth in (config.depth[0], *config.depth[-2:])),
        middle_depth=min(config.middle_depth, 2),
        cross_only=config.cross_only[:1] + config.cross_only[-2:],
    )


@smaller.register
def _(config: MMDiTConfig) -> MMDiTConfig:
    dual = tuple(i for i in config.dual if i < 2)
    return replace(config, hidden=128, heads=2, depth=3, context_dim=144, pooled_dim=96, positions=16, dual=dual)


@smaller.register
def _(config: VAEConfig) -> VAEConfig:
    return replace(config, channels=(32,) * len(config.channels), blocks=1)


@smaller.register
def _(config: CLIPTextConfig) -> CLIPTextConfig:
    return replace(
        config,
        vocab_size=WORDS.vocab_size,
        hidden_size=64,
        intermediate_size=128,
        layers=3,
        heads=1,
        bos_token_id=WORDS.bos_token_id,
        eos_token_id=WORDS.eos_token_id,
        pad_token_id=min(config.pad_token_id, WORDS.pad_token_id),
        projection_dim=None if config.projection_dim is None else 32,
    )


@smaller.register
def _(config: CLIPVisionConfig) -> CLIPVisionConfig:
    return CLIPVisionConfig(64, 64, layers=2, heads=1, size=28, patch=14, activation="quick_gelu", projection_dim=24)


@smaller.register
def _(config: T5Config) -> T5Config:
    return replace(config, vocab_size=600, hidden_size=144, intermediate_size=128, layers=2, heads=2, head_dim=64)


@smaller.register
def _(config: PriorConfig) -> PriorConfig:
    return replace(
        config, concepts=12, code=16, attributes=8, side=4, text_dim=64, reader=32, reader_layers=1,
        phrases=8,
    )  # fmt: skip


@smaller.register
def _(config: DPTConfig) -> DPTConfig:
    return replace(
        config, stem=32, stages=(128, 128, 128), depths=(1, 1, 1), positions=2, hidden=64, intermediate=64, layers=4,
        heads=1, neck=(128, 128, 32, 32), fusion=32,
    )  # fmt: skip


@smaller.register
def _(config: DepthNetConfig) -> DepthNetConfig:
    return replace(config, channels=(8, 16, 24))


@smaller.register(NoiseSchedule)
@smaller.register(SkipLayers)
@smaller.register(Defaults)
def _(habits: object) -> object:
    return habits


def shrink(spec: Spec) -> Spec:
    """The release with small networks that fit together."""
    parts = {field.name: getattr(spec, field.name) for field in fields(spec)}
    small = replace(spec, **{name: smaller(part) for name, part in parts.items() if is_dataclass(part)})
    towers = [tower for tower in (small.text, small.text_2) if tower is not None]
    if small.transformer is not None:  # the U-Net's sizes mean nothing
        widths = (
            {"context_dim": small.text.hidden_size, "pooled_dim": small.text.hidden_size} if len(towers) == 1 else {}
        )
        if small.prior is not None:
            width = small.prior.code + small.prior.attributes
            widths = {"context_dim": width, "pooled_dim": width}
        return replace(small, unet=spec.unet, transformer=replace(small.transformer, **widths))
    unet = replace(small.unet, context_dim=sum(tower.hidden_size for tower in towers))
    if unet.vector_dim is not None:
        numbers = sum(IDS[name] for name in spec.micro_conditioning)
        pooled = towers[-1].projection_dim or 0 if small.image is None else 2 * (small.image.projection_dim or 0)
        unet = replace(unet, vector_dim=pooled + numbers * ID_WIDTH)
    return replace(small, unet=unet)


def randomise(network: nn.Module, seed: int = 0) -> nn.Module:
    """Fill every tensor with numbers of its own, such that signals keep their size; in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in network.state_dict().values():
        tensor.normal_(generator=generator)
        if tensor.ndim > 1 and tensor.numel():
            tensor /= tensor[0].numel() ** 0.5
    for module in network.modules():
        if "Norm" in type(module).__name__ and getattr(module, "weight", None) is not None:
            module.weight.data.mul_(0.1).add_(1)
    return network.eval().requires_grad_(False)


def random_networks(family: Family, spec: Spec) -> dict[str, nn.Module]:
    """The networks of a model, each with other weights."""
    return {part: randomise(network, seed) for seed, (part, network) in enumerate(family.networks(spec).items())}


def save(folder: Path, family: Family) -> Path:
    """The folder of a family's little model with random weights."""
    spec = shrink(family.spec)
    WORDS.save(folder.parent / "words")
    save_folder(folder, spec, random_networks(family, spec), folder.parent / "words")
    return folder


def tensors(family: Family, spec: Spec, networks: Mapping[str, nn.Module], layout: str) -> dict[str, Tensor]:
    """All tensors of a model under the names of a layout."""
    keymap = family.keymap(spec, layout, networks)
    return {
        name: tensor
        for part, network in networks.items()
        for name, tensor in keymap.to_theirs(part, network.state_dict()).items()
    }


def write_file(path: Path, state: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    """A safetensors file."""
    entries = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in state.items()}
    safetensors_file.write(path, entries, state.__getitem__, metadata)
    return path
