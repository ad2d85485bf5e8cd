"""Adapters with random weights, for tiny models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sfumato.nets.clip_vision import CLIPVision
from sfumato.nets.ip_adapter import cross_attentions
from sfumato.nets.layers import Linear
from sfumato.nets.safety_checker import SafetyChecker
from sfumato.nets.unet import UNet
from sfumato.spec import CLIPVisionConfig


def random_lora(
    network: nn.Module, size: float = 0.1, rank: int = 2, seed: int = 0, prefix: str = "lora_unet_",
    more: Sequence[str] = (),
) -> dict[str, Tensor]:  # fmt: skip
    """A LoRA of all linear layers of a network, under kohya's names and those of `more` layers."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}

    def add(layer: str, shape: Sequence[int]) -> None:
        tensors[f"{layer}.lora_up.weight"] = size * torch.randn(shape[0], rank, generator=generator)
        tensors[f"{layer}.lora_down.weight"] = size * torch.randn(rank, shape[1], generator=generator)
        tensors[f"{layer}.alpha"] = torch.tensor(float(rank))

    for name, module in network.named_modules():
        if isinstance(module, Linear):
            add(prefix + name.replace(".", "_"), module.weight.shape)
    for name in more:
        add(prefix + name, (8, 8))
    return tensors


KINDS = ("lora", "dora", "loha", "lokr", "ia3", "glora", "oft", "boft", "full", "tucker")


def random_adapter(kind: str, network: nn.Module, size: float = 0.2, seed: int = 0) -> dict[str, Tensor]:
    """An adapter of a kind for all products and convolutions of a network whose sizes allow it."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}

    def some(*shape: int) -> Tensor:
        return size * torch.randn(shape, generator=generator)

    for path, module in network.named_modules():
        if not isinstance(module, nn.Linear | nn.Conv2d):
            continue
        weight, name = module.weight, f"lora_unet_{path.replace('.', '_')}"
        out, cin, *kernel = weight.shape
        parts: dict[str, Tensor] = {}
        if kind == "lora":
            parts = {"lora_up.weight": some(out, 2, *[1] * len(kernel)), "lora_down.weight": some(2, cin, *kernel)}
        elif kind == "dora":
            parts = {"lora_up.weight": some(out, 2), "lora_down.weight": some(2, cin, *kernel)}
            parts["dora_scale"] = weight.detach().flatten(1).norm(dim=1).reshape(-1, *[1] * (weight.dim() - 1)) * 1.2
        elif kind == "tucker" and kernel and kernel[0] > 1:
            parts = {"lora_up.weight": some(out, 2, 1, 1), "lora_down.weight": some(2, cin, 1, 1)}
            parts["lora_mid.weight"] = 5 * some(2, 2, *kernel)
        elif kind == "loha":
            parts = {f"hada_w{i}_{end}": 3 * some(*shape) for i in (1, 2)
                     for end, shape in (("a", (out, 2)), ("b", (2, weight[0].numel())))}  # fmt: skip
        elif kind == "lokr" and out % 2 == cin % 2 == 0:
            parts = {"lokr_w1": some(2, 2), "lokr_w2": some(out // 2, cin // 2, *kernel)}
        elif kind == "ia3":
            parts = {"weight": some(out), "on_input": torch.tensor(0)}
        elif kind == "glora":
            parts = {"a1.weight": some(cin, 2), "a2.weight": some(2, cin), "b1.weight": some(out, 2)}
            parts["b2.weight"] = some(2, cin, *kernel)
        elif kind == "oft" and out % 4 == 0:
            parts = {"oft_blocks": some(out // 4, 4, 4), "alpha": torch.tensor(0.01)}
        elif kind == "boft" and out % 8 == 0:
            parts = {"oft_blocks": some(2, out // 4, 4, 4), "alpha": torch.tensor(0.0)}
        elif kind == "full":
            parts = {"diff": 0.3 * some(*weight.shape)}
            if module.bias is not None:
                parts["diff_b"] = some(out)
        tensors |= {f"{name}.{part}": value.contiguous() for part, value in parts.items()}
    return tensors


EYE = CLIPVisionConfig(64, 64, layers=2, heads=1, size=28, patch=14, activation="quick_gelu", projection_dim=24)


def random_ip_adapter(network: UNet, width: int) -> dict[str, Tensor]:
    """A plain IP-Adapter for a U-Net that reads text of this width, and pictures by EYE."""
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    seen = EYE.projection_dim or 0
    tensors = {"image_proj.proj.weight": noise(4 * width, seen), "image_proj.proj.bias": noise(4 * width),
               "image_proj.norm.weight": torch.ones(width), "image_proj.norm.bias": torch.zeros(width)}  # fmt: skip
    for place, layer in enumerate(cross_attentions(network)):
        for side in "kv":
            tensors[f"ip_adapter.{2 * place + 1}.to_{side}_ip.weight"] = noise(layer.attn2.to_q.in_features, width)
    return tensors


def strict_checker(path: Path) -> str:
    """The file of a safety checker that finds every picture unsafe."""
    network = SafetyChecker(EYE, 3, 1)
    state = {name.removeprefix("vision."): value for name, value in network.state_dict().items()}
    save_file(state | {"concept_embeds_weights": torch.full((3,), -2.0)}, path)
    return str(path)


def random_eye(seed: int = 0) -> dict[str, Tensor]:
    """The vision tower EYE, under transformers' names."""
    torch.manual_seed(seed)
    return CLIPVision(EYE).state_dict()
