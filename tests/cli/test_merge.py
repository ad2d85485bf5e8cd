"""`sfumato merge` and `sfumato lora`, from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from sfumato.cli.main import app
from tiny.models import TINY, random_model, write

__all__ = ["write"]


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], prog_name="sfumato")


@pytest.fixture
def files(write: Callable[..., Path]) -> list[Path]:
    return [write(random_model(TINY, seed).original(), f"{name}.safetensors") for seed, name in enumerate("ab")]


def test_models_are_merged_and_the_recipe_is_printed(files: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    said = run("merge", *files, "--weight", "0.25", "--blocks", "IN=0", "--out", out)
    assert said.exit_code == 0, said.output
    assert "A (1 - w) + B w, w = 0.25" in said.stdout and str(out) in said.stdout
    assert all(len(line) <= 80 or str(tmp_path) in line for line in said.stdout.splitlines())
    again = run("merge", *files, "--out", out)
    assert again.exit_code == 2 and "exists; name another place, or replace it with --overwrite" in again.stderr
    record = json.loads(run("merge", *files, "--out", out, "--overwrite", "--method", "slerp", "--json").stdout)
    assert record["method"] == "slerp" and [one["name"] for one in record["models"]] == [
        "a.safetensors",
        "b.safetensors",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--weights", "1,x"), "--weights is '1,x'; give numbers"),
        (("--method", "difference"), "takes 3 models, 2 are given"),
        (("--dtype", "int8"), "unknown dtype 'int8'"),
        (("--lora", "nowhere"), "there is no adapter 'nowhere'"),
    ],
)
def test_errors_are_one_line(files: list[Path], tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    said = run("merge", *files, "--out", tmp_path / "out.safetensors", *words)
    assert said.exit_code == 2 and message in said.stderr and said.stderr.count("\n") == 1
    assert not (tmp_path / "out.safetensors").exists()


def test_a_lora_is_extracted_resized_merged_and_baked(files: list[Path], tmp_path: Path) -> None:
    lora, small, both = (tmp_path / f"{name}.safetensors" for name in ("lora", "small", "both"))
    said = run("lora", "extract", files[1], files[0], "--rank", "8", "--out", lora)
    assert said.exit_code == 0 and "of rank 4 to 8" in said.stdout and "left out" in said.stdout
    assert run("lora", "resize", lora, "--out", small).exit_code == 2
    said = run("lora", "resize", lora, "--rank", "2", "--model", files[0], "--out", small, "--json")
    assert json.loads(said.stdout)["ranks"] == [2, 2]
    said = run("lora", "merge", f"{lora}:0.5", f"{small}:0.5", "--model", files[0], "--out", both)
    assert said.exit_code == 0 and "of rank 6 to 10" in said.stdout
    said = run("merge", files[0], "--lora", f"{both}:1", "--out", tmp_path / "baked.safetensors")
    assert said.exit_code == 0 and "LoRA" in said.stdout, said.output
    before, after = load_file(files[0]), load_file(tmp_path / "baked.safetensors")
    assert any((after[name] != before[name]).any() for name in before)
