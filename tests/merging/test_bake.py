"""LoRAs in a model for good: what the view of the model with them is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sfumato.adapters.file import AdapterFile
from sfumato.adapters.merged import merged
from sfumato.adapters.use import Use
from sfumato.errors import SfumatoError
from sfumato.families import family
from sfumato.loading.load import load_parts
from sfumato.merging.merge import merge
from tiny.models import TINY, Model, random_model

Q = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
FC = "lora_te_text_model_encoder_layers_0_mlp_fc1"


def lora(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {f"{Q}.lora_up.weight": (32, 2), f"{Q}.lora_down.weight": (2, 32), f"{Q}.dora_scale": (32, 1),
              f"{FC}.lora_up.weight": (128, 2), f"{FC}.lora_down.weight": (2, 64)}  # fmt: skip
    return {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}


def test_a_model_with_loras_is_its_view_with_them(write: Callable[..., Path], tmp_path: Path) -> None:
    model = random_model(TINY, 0)
    base = write(model.original(), "base.safetensors")
    files = [write(lora(seed), f"lora{seed}.safetensors") for seed in range(2)]
    made = merge([base], tmp_path / "out.safetensors", loras=[f"{files[0]}:0.5:0.25", files[1]])
    uses = [Use(AdapterFile.open(files[0]), 0.25, 0.5), Use(AdapterFile.open(files[1]))]
    found = load_parts(made.out).networks
    for part, network in model.networks.items():
        expected = merged(network, part, uses, TINY).state_dict()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in found[part].state_dict().items())
    before, after = load_file(base), load_file(made.out)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert len(changed) == made.tensors == 2
    assert [one["weight"] for one in made.recipe["loras"]] == [0.25, 1.0]


def test_loras_come_after_the_formula(write: Callable[..., Path], tmp_path: Path) -> None:
    models = [random_model(TINY, seed) for seed in range(2)]
    files = [write(model.original(), f"{i}.safetensors") for i, model in enumerate(models)]
    plain = {name: tensor for name, tensor in lora(0).items() if "dora" not in name}
    one = write(plain, "lora.safetensors")
    merge(files, tmp_path / "sum.safetensors", weights=0.5)
    both = merge(files, tmp_path / "both.safetensors", weights=0.5, loras=[one])
    alone = merge([tmp_path / "sum.safetensors"], tmp_path / "alone.safetensors", loras=[one])
    expected, found = load_file(alone.out), load_file(both.out)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


def test_a_lora_on_joined_layers_is_added_to_each(shrunk: Callable[[str], object], write: Callable[..., Path],
                                                  tmp_path: Path) -> None:  # fmt: skip
    """kohya's LoRAs of SD 3 change query, key and value together; a file in diffusers' layout has them apart."""
    model: Model = random_model(shrunk("sd3_medium"), 0)  # type: ignore[arg-type]
    base = write(model.original(), "base.safetensors")
    name = "joint_blocks.0.x_block.attn.qkv.weight"
    width = load_file(base)[f"model.diffusion_model.{name}"].shape[1]
    layer = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
    up, down = torch.rand(3 * width, 2), torch.rand(2, width)
    one = write({f"{layer}.lora_up.weight": up, f"{layer}.lora_down.weight": down}, "lora.safetensors")
    made = merge([base], tmp_path / "out.safetensors", loras=[one])
    before, after = load_file(base), load_file(made.out)
    changed = [key for key in before if not torch.equal(before[key], after[key])]
    assert changed == [f"model.diffusion_model.{name}"] and family("sd3_medium").denoiser == "transformer"
    torch.testing.assert_close(after[changed[0]], before[changed[0]] + up @ down)


def test_a_lora_that_fits_in_part_is_refused_unless_asked(write: Callable[..., Path], tmp_path: Path) -> None:
    base = write(random_model(TINY, 0).original(), "base.safetensors")
    strange = {f"lora_unet_elsewhere.lora_{end}.weight": torch.rand(2, 2) for end in ("up", "down")}
    one = write(lora(0) | strange, "lora.safetensors")
    with pytest.raises(SfumatoError, match="1 of its 3 layers"):
        merge([base], tmp_path / "out.safetensors", loras=[one])
    assert merge([base], tmp_path / "out.safetensors", loras=[one], lora_partial=True).tensors == 2
