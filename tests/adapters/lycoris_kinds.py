"""Makes `lycoris_kinds.safetensors`: layers of every kind with random values, and the weights LyCORIS makes of them.

Run it with the package `lycoris-lora` installed: python tests/adapters/lycoris_kinds.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

FILE = Path(__file__).with_name("lycoris_kinds.safetensors")
STRENGTHS = (1.0, 0.6)
# Where alpha is not the rank, LyCORIS scales LoHa and LoKr once in training and twice in merging: here it is the rank.
# The name of a case, its class, its layer, and how it is made.
CASES: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("lora", "LoConModule", "linear", {"lora_dim": 3, "alpha": 2}),
    ("lora_conv", "LoConModule", "conv", {"lora_dim": 3, "alpha": 2}),
    ("lora_conv_tucker", "LoConModule", "conv", {"lora_dim": 3, "alpha": 2, "use_tucker": True}),
    ("dora", "LoConModule", "linear", {"lora_dim": 3, "weight_decompose": True, "wd_on_out": True}),
    ("dora_columns", "LoConModule", "linear", {"lora_dim": 3, "weight_decompose": True, "wd_on_out": False}),
    ("dora_conv", "LoConModule", "conv", {"lora_dim": 3, "weight_decompose": True, "wd_on_out": True}),
    ("loha", "LohaModule", "linear", {"lora_dim": 3, "alpha": 3}),
    ("loha_conv", "LohaModule", "conv", {"lora_dim": 3, "alpha": 3}),
    ("loha_conv_tucker", "LohaModule", "conv", {"lora_dim": 3, "alpha": 3, "use_tucker": True}),
    ("loha_dora", "LohaModule", "linear", {"lora_dim": 3, "alpha": 3, "weight_decompose": True}),
    ("lokr_full", "LokrModule", "linear", {"lora_dim": 9, "alpha": 9, "factor": 2}),
    ("lokr", "LokrModule", "linear", {"lora_dim": 2, "alpha": 2, "factor": 2}),
    ("lokr_both", "LokrModule", "wide", {"lora_dim": 1, "alpha": 1, "factor": 4, "decompose_both": True}),
    ("lokr_conv", "LokrModule", "conv", {"lora_dim": 1, "alpha": 1, "factor": 2}),
    ("lokr_conv_tucker", "LokrModule", "conv", {"lora_dim": 1, "alpha": 1, "factor": 2, "use_tucker": True}),
    ("lokr_conv_full", "LokrModule", "conv", {"lora_dim": 9, "alpha": 9, "factor": 2, "full_matrix": True}),
    ("lokr_dora", "LokrModule", "linear", {"lora_dim": 2, "alpha": 2, "factor": 2, "weight_decompose": True}),
    ("ia3", "IA3Module", "linear", {}),
    ("ia3_columns", "IA3Module", "linear", {"train_on_input": True}),
    ("ia3_conv_columns", "IA3Module", "conv", {"train_on_input": True}),
    ("glora", "GLoRAModule", "linear", {"lora_dim": 3, "alpha": 2}),
    ("glora_conv", "GLoRAModule", "conv", {"lora_dim": 3, "alpha": 2}),
    ("oft", "DiagOFTModule", "linear", {"lora_dim": 4}),
    ("oft_rescaled", "DiagOFTModule", "linear", {"lora_dim": 4, "rescaled": True}),
    ("oft_bounded", "DiagOFTModule", "conv", {"lora_dim": 4, "constraint": 0.05}),
    ("boft", "ButterflyOFTModule", "wide", {"lora_dim": 4}),
    ("boft_conv_rescaled", "ButterflyOFTModule", "conv", {"lora_dim": 4, "rescaled": True}),
)  # fmt: skip


def layer(kind: str) -> nn.Module:
    return {"linear": nn.Linear(10, 8), "wide": nn.Linear(16, 16), "conv": nn.Conv2d(6, 8, 3, padding=1)}[kind]


def computed() -> Iterator[tuple[str, Tensor]]:
    """Every tensor of the file, by LyCORIS."""
    from lycoris import modules

    for case, kind, where, options in CASES:
        original = layer(where).requires_grad_(False)
        module = getattr(modules, kind)("layer", original, **options)
        for name, parameter in module.named_parameters():
            if "dora_scale" in name or "rescale" in name:
                parameter.data.mul_(1 + 0.3 * torch.randn_like(parameter))
            else:
                parameter.data.normal_(0, 0.5)
        shape = original.weight.shape
        yield f"{case}/weight", original.weight.clone()
        state = module.custom_state_dict()
        for name, value in (module.state_dict() if state is None else state).items():
            yield f"{case}/layer.{name}", value.detach().clone()
        for strength in STRENGTHS:
            merged, _ = module.get_merged_weight(strength, shape)
            yield f"{case}/merged {strength}", merged.detach().reshape(shape).clone()


if __name__ == "__main__":
    torch.manual_seed(0)
    save_file({name: value.contiguous() for name, value in computed()}, FILE)
