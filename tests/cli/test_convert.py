"""`sfumato convert` in the shell: what it prints, the table beside the result, one line for every failure."""

import json
from pathlib import Path


def test_a_folder_becomes_a_file_and_comes_back(run, model: str, tmp_path: Path) -> None:
    result = run("convert", model, "one.safetensors", "--layout", "original", "--dtype", "bfloat16")
    assert result.exit_code == 0, result.stderr
    lines = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert lines["layout"] == "diffusers to original"
    assert lines["proved"].startswith("mapped back, the result is the input, rounded by at most 0.00")
    table = (tmp_path / "one.safetensors.proof.tsv").read_text().splitlines()
    assert table[0].split("\t")[:2] == ["input", "output"]
    assert any(
        line.startswith("unet/conv_in.weight\tmodel.diffusion_model.input_blocks.0.0.weight\t") for line in table
    )
    result = run("convert", "one.safetensors", "back", "--layout", "diffusers", "--proof", "table.tsv", "--json")
    record = json.loads(result.stdout)
    assert record["exact"] and record["family"] == "sd1" and record["layouts"] == ["original", "diffusers"]
    assert len(record["rows"]) == len((tmp_path / "table.tsv").read_text().splitlines()) - 1
    assert "bfloat16" in run("inspect", "back").stdout
    drawn = run("txt2img", "a cat", "--model", "one.safetensors", "--steps", "1", "--size", "16x16")
    assert drawn.exit_code == 0, drawn.stderr


def test_failures_are_one_line(run, refused, model: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    refused(run("convert", model, "there", "--layout", "diffusers"), "exists", "--overwrite")
    refused(run("convert", model, "x.safetensors", "--layout", "onnx"), "unknown layout 'onnx'", "original, diffusers")
    refused(run("convert", model, "x", "--layout", "diffusers", "--dtype", "int4"), "float32, float16")
    refused(run("convert", "none", "x", "--layout", "diffusers"), "none")
    refused(run("convert", model, "x", "--layout", "diffusers", "--ema"), "holds no averaged")
    (tmp_path / "table").write_text("mine")
    refused(run("convert", model, "x", "--layout", "diffusers", "--proof", "table"), "table exists")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["table", "there"]
