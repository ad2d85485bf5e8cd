"""Variants: a small file that opens as the whole model, on the base it was made for and on no other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import sfumato
from sfumato.checkpoint import variant
from sfumato.checkpoint.formats import safetensors_file
from sfumato.checkpoint.open import open_checkpoint
from sfumato.errors import SfumatoError
from sfumato.loading.convert import convert
from sfumato.loading.inspect import inspect_checkpoint
from sfumato.loading.load import load_parts

CONV = "unet/mid_block.resnets.0.conv1.weight"
CHANGES = {
    "unet/config.json": {"in_channels": 9},
    "model_index.json": {"_class_name": "StableDiffusionInpaintPipeline"},
    "sfumato.json": {"steps": 3},
}


def tensors(base: str, rank: int = 2) -> dict[str, torch.Tensor]:
    weights = load_parts(base).unet.state_dict()
    conv, first = weights["mid_block.resnets.0.conv1.weight"], weights["conv_in.weight"]
    return {
        f"{CONV}.up": torch.full((len(conv), rank), 0.5),
        f"{CONV}.down": torch.full((rank, conv[0].numel()), 0.25),
        "unet/conv_in.weight.full": torch.full((len(first), 9, 3, 3), 0.125),
    }


@pytest.fixture
def base(model: str, tmp_path: Path) -> str:
    return str(shutil.copytree(model, tmp_path / "base"))


@pytest.fixture
def file(base: str, tmp_path: Path) -> Path:
    path = tmp_path / "inner" / "mine.safetensors"
    variant.write(path, base, CHANGES, tensors(base))
    return path


def test_it_loads_as_the_base_with_the_differences_added(base: str, file: Path) -> None:
    before, after = load_parts(base), load_parts(file)
    old, new = before.unet.state_dict(), after.unet.state_dict()
    name = CONV.removeprefix("unet/")
    assert torch.allclose(new[name], old[name] + 2 * 0.5 * 0.25)
    first = new["conv_in.weight"]
    assert torch.allclose(first[:, :4], old["conv_in.weight"] + 0.125) and (first[:, 4:] == 0.125).all()
    assert all(torch.equal(new[one], old[one]) for one in old.keys() - {name, "conv_in.weight"})
    assert after.spec.family == "sd1_inpainting" and after.spec.defaults.steps == 3
    assert after.spec.text == before.spec.text and after.spec.noise == before.spec.noise


def test_it_draws_under_its_own_name(file: Path) -> None:
    model = sfumato.load(file, device="cpu")
    image = model.txt2img("a cat", seed=1, width=16, height=16).images[0]
    assert model.name == "mine" and len(model.hash or "") == 10 and image.size == (16, 16)


@pytest.mark.parametrize("layout", ["diffusers", "original"])
def test_it_converts_to_a_whole_model_that_draws_the_same(file: Path, tmp_path: Path, layout: str) -> None:
    out = tmp_path / ("whole" if layout == "diffusers" else "whole.safetensors")
    convert(file, out, layout)
    images = [
        np.asarray(sfumato.load(one, device="cpu").txt2img("a cat", seed=1, width=16, height=16).images[0])
        for one in (file, out)
    ]
    assert (images[0] == images[1]).all()


def test_it_can_be_inspected(file: Path) -> None:
    found = inspect_checkpoint(file)
    assert found.container == "variant" and found.family == "sd1_inpainting" and found.problem is None


def test_another_base_is_refused(base: str, file: Path) -> None:
    weights = next(Path(base, "unet").glob("*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(SfumatoError, match="which now has"):
        sfumato.load(file)


def test_a_missing_base_is_named(base: str, file: Path) -> None:
    shutil.rmtree(base)
    with pytest.raises(SfumatoError, match=r"is a variant of '.*base'"):
        sfumato.load(file)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        (f"{CONV}.up", torch.zeros(3, 2)),
        (f"{CONV}.down", torch.zeros(3, 7)),
        (f"{CONV}.down", torch.zeros(2)),
        ("unet/conv_in.weight.full", torch.zeros(2, 9, 3, 3)),
        ("unet/conv_in.weight.full", torch.zeros(9)),
        ("unet/nothing.weight.full", torch.zeros(9)),
    ],
)
def test_differences_that_do_not_fit_are_named(base: str, tmp_path: Path, name: str, tensor: torch.Tensor) -> None:
    variant.write(tmp_path / "odd.safetensors", base, CHANGES, tensors(base) | {name: tensor})
    with pytest.raises(SfumatoError, match=f"changes {name.rpartition('.')[0]}"):
        sfumato.load(tmp_path / "odd.safetensors")


@pytest.mark.parametrize("header", ["{", "[]", "{}", '{"base": 1, "sha256": "", "changes": {}}'])
def test_a_broken_header_is_one_line(tmp_path: Path, header: str) -> None:
    path, tensor = tmp_path / "odd.safetensors", torch.zeros(2)
    safetensors_file.write(path, {"x": ((2,), torch.float32)}, lambda _: tensor, {variant.KEY: header})
    with pytest.raises(SfumatoError, match="broken header"):
        sfumato.load(path)


def test_changes_of_files_are_merged_by_field(base: str, file: Path) -> None:
    with open_checkpoint(file) as checkpoint:
        assert checkpoint.configs["unet/config"]["in_channels"] == 9
        own = json.loads(Path(base, "unet", "config.json").read_text())
        assert checkpoint.configs["unet/config"] == own | {"in_channels": 9}
