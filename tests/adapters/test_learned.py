"""Differences that learn: nothing at first, then what their file makes of the model, under every trainer's names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

import tiny
from sfumato.adapters import writing
from sfumato.adapters.describe import describe_file
from sfumato.adapters.file import AdapterFile
from sfumato.adapters.learned import Shape, learning
from sfumato.adapters.lora import read
from sfumato.adapters.merged import merged
from sfumato.adapters.use import Use
from sfumato.checkpoint.hashes import sha256_of_tensors
from sfumato.diffusion.cond import Cond
from sfumato.errors import SfumatoError
from sfumato.families import family
from sfumato.nets.mmdit import MMDiT
from sfumato.spec import Spec

KINDS = {"lora": "LoRA", "dora": "DoRA", "loha": "LoHa", "lokr": "LoKr"}
RELEASES = ("sd1", "sd2", "sdxl", "sd3_medium", "sd35_medium", "sd3_prior")
BLOCKS = ("*attentions*", "*resnets*", "*samplers*", "transformer_blocks*")


def stirred(differences: nn.Module) -> None:
    generator = torch.Generator().manual_seed(2)
    for value in differences.parameters():
        value.data += 0.05 * torch.randn(value.shape, generator=generator)


def inputs(spec: Spec) -> tuple[torch.Tensor, torch.Tensor, Cond]:
    generator = torch.Generator().manual_seed(1)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    x, t = noise(2, spec.vae.latent_channels, 8, 8), torch.tensor([10.0, 700.0])
    concat = None if spec.prior is None else noise(2, spec.prior.latent_channels, 8, 8)
    if spec.transformer is not None:
        return (
            x,
            t,
            Cond(noise(2, 9, spec.transformer.context_dim), noise(2, spec.transformer.pooled_dim), None, concat),
        )
    width, ids = spec.unet.vector_dim, None
    pooled = None
    if width is not None:
        pooled, ids = noise(2, width - 256 * 6), torch.full((2, 6), 64.0)
    return x, t, Cond(noise(2, 9, spec.unet.context_dim), pooled, ids)


@pytest.mark.parametrize(
    ("kind", "release"),
    [*(("lora", release) for release in RELEASES), ("dora", "sd1"), ("loha", "sdxl"), ("lokr", "sd35_medium")],
)
def test_a_file_makes_of_a_network_what_was_trained(kind: str, release: str, tmp_path: Path) -> None:
    spec = tiny.shrink(family(release).spec)
    part = family(release).denoiser
    network = tiny.random_networks(family(release), spec)[part].eval()
    x, t, cond = inputs(spec)
    with torch.no_grad():
        plain = network(x, t, cond)
        shape = Shape(kind, rank=2, alpha=1.0, conv_rank=0 if isinstance(network, MMDiT) else 3)
        trained, differences = learning(network, shape, BLOCKS)
        torch.testing.assert_close(trained(x, t, cond), plain, atol=1e-4, rtol=1e-4)  # at first it changes nothing
        stirred(differences)
        expected = trained(x, t, cond)
        assert (expected - plain).abs().max() > 0.01 * plain.abs().max()
        assert torch.equal(network(x, t, cond), plain), "the network itself stays as it is"
        layouts = ("kohya", "peft") if kind == "lora" else ("kohya",)
        for layout in layouts:
            path = tmp_path / f"{layout}.safetensors"
            held = writing.tensors(spec, {part: differences}, layout, torch.float32)
            writing.write(path, held, {"ss_output_name": "x"})
            file = AdapterFile.open(path)
            assert not read(file, spec).strange
            found = merged(network, part, (Use(file),), spec)(x, t, cond)
            assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
            assert describe_file(path).kind == KINDS[kind]
            assert file.metadata["sshs_model_hash"] == sha256_of_tensors(path)
            with safe_open(path, "pt") as opened:
                names = list(opened.keys())
            start = {"peft": f"{part}."}.get(layout, "lora_")
            assert all(name.startswith(start) for name in names)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_all_that_learns_and_nothing_else(kind: str) -> None:
    spec = tiny.shrink(family("sd1").spec)
    network = tiny.random_networks(family("sd1"), spec)["unet"]
    trained, differences = learning(network, Shape(kind, rank=2, conv_rank=2), BLOCKS)
    stirred(differences)
    x, t, cond = inputs(spec)
    trained(x, t, cond).square().mean().backward()
    assert all(value.grad is not None and value.grad.any() for value in differences.parameters())
    assert all(value.grad is None for value in network.parameters())


def test_text_encoders_have_numbers_where_there_are_several(tmp_path: Path) -> None:
    for release, start in (("sd1", "lora_te_"), ("sdxl", "lora_te1_")):
        spec = tiny.shrink(family(release).spec)
        tower = tiny.random_networks(family(release), spec)["text"]
        _, differences = learning(tower, Shape(rank=2), ("*.self_attn.*", "*.mlp.*"))
        held = writing.tensors(spec, {"text": differences}, "kohya", torch.float16)
        assert all(name.startswith(f"{start}text_model_encoder_layers_") for name in held)


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(SfumatoError, match="rank is 0"):
        Shape(rank=0)
    with pytest.raises(SfumatoError, match="no layer is called nowhere"):
        learning(nn.Sequential(nn.Linear(2, 2)), Shape(), ("nowhere",))
    spec = tiny.shrink(family("sd1").spec)
    network = tiny.random_networks(family("sd1"), spec)["unet"]
    _, differences = learning(network, Shape("loha", 2), BLOCKS)
    with pytest.raises(SfumatoError, match="choose layout 'kohya'"):
        writing.tensors(spec, {"unet": differences}, "peft", torch.float16)
