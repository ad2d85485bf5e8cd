import json

import pytest
import torch
from typer.testing import CliRunner

from sfumato.cli.main import app
from sfumato.loading.inspect import inspect_checkpoint


def run(*arguments: object):
    return CliRunner().invoke(app, ["inspect", *map(str, arguments)])


def test_a_complete_file(tiny, write):
    path = write(tiny.original(torch.float16), metadata={"author": "me", "evil": "a\x1b[2Jb"})
    found = inspect_checkpoint(path)
    assert (found.family, found.layout, found.container) == ("sd1", "original", "safetensors")
    assert found.problem is None
    assert not found.ema
    assert found.dtypes["float16"] == len(tiny.original()) - 2
    counts = {part: sum(p.numel() for p in network.parameters()) for part, network in tiny.networks.items()}
    assert {part: count["parameters"] for part, count in found.parts.items()} == counts
    assert found.spec == tiny.spec

    result = run(path)
    assert result.exit_code == 0
    assert "Stable Diffusion 1.x" in result.stdout
    assert f"{counts['unet']:,} parameters" in result.stdout
    assert "author: me" in result.stdout
    assert "\x1b" not in result.stdout
    assert "usable     yes" in result.stdout
    record = json.loads(run(path, "--json").stdout)
    assert record["spec"]["unet"]["channels"] == list(tiny.spec.unet.channels)
    assert record["metadata"]["author"] == "me"


def test_a_folder(odd, save):
    found = inspect_checkpoint(save(odd, max_file_size=400_000, dtype=torch.bfloat16))
    assert (found.family, found.layout, found.container, found.problem) == ("sd1", "diffusers", "folder", None)
    assert list(found.dtypes) == ["bfloat16"]


def test_averaged_weights_are_seen(tiny, write):
    averaged = {name: tensor for name, tensor in tiny.theirs("original", ema=True).items() if "model_ema" in name}
    assert inspect_checkpoint(write(tiny.original() | averaged)).ema


def test_what_is_missing_is_said(tiny, write):
    tensors = tiny.original()
    del tensors["first_stage_model.quant_conv.weight"]
    path = write(tensors | {"model.diffusion_model.surplus": torch.zeros(1)})
    found = inspect_checkpoint(path)
    assert found.missing == ["first_stage_model.quant_conv.weight"]
    assert found.left_over == ["model.diffusion_model.surplus"]
    assert "1 tensors are missing, 1 left over" in found.problem
    result = run(path)
    assert result.exit_code == 0
    assert "missing    first_stage_model.quant_conv.weight" in result.stdout
    assert "usable     no" in result.stdout


@pytest.mark.parametrize("part", ["first_stage_model.", "cond_stage_model."])
def test_a_missing_part_is_said(tiny, write, part):
    tensors = {name: tensor for name, tensor in tiny.original().items() if not name.startswith(part)}
    result = run(write(tensors))
    assert result.exit_code == 0
    assert "usable     no" in result.stdout


def test_a_stranger_is_described(golden):
    result = run(golden / "embeddings/ti_a1111.pt")
    assert result.exit_code == 0
    assert "an embedding of 3 vectors" in result.stdout


def test_a_broken_file_is_one_line_and_exit_code_2(tmp_path):
    (tmp_path / "a.ckpt").write_bytes(b"nothing")
    result = run(tmp_path / "a.ckpt")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
