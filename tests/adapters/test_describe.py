"""What is said of an adapter's file: by `inspect`, by `models`, and in Python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from sfumato.adapters.describe import describe_file, trained_words
from sfumato.cli.main import app
from sfumato.families import family
from tiny.adapters import KINDS, random_adapter, random_lora

NAMES = {"lora": "LoRA", "tucker": "LoRA", "dora": "DoRA", "loha": "LoHa", "lokr": "LoKr", "ia3": "IA3", "oft": "OFT",
         "glora": "GLoRA", "boft": "BOFT", "full": "a full difference"}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_and_the_ranks_are_told(kind: str, shrunk, random_model, tmp_path: Path) -> None:
    network = random_model(shrunk("sd1")).networks["unet"]
    save_file(random_adapter(kind, network), tmp_path / "a.safetensors")
    found = describe_file(tmp_path / "a.safetensors")
    assert found is not None and found.kind == NAMES[kind]
    assert found.ranks == (() if kind in ("ia3", "oft", "boft", "full", "lokr") else (2,))
    assert found.layers > 5


def test_inspect_and_models_say_what_an_adapter_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = tmp_path / "web" / "models" / "Lora"
    room.mkdir(parents=True)
    monkeypatch.setenv("SFUMATO_MODELS", str(tmp_path / "web"))
    spec = family("sdxl").spec
    with torch.device("meta"):
        network = family("sdxl").networks(spec)["text"]
    tensors = {name: value.half() for name, value in random_lora(network, rank=3, prefix="lora_te1_").items()}
    tags = {"ss_tag_frequency": json.dumps({"10_x": {"a lion": 5, "gold": 9}}), "ss_base_model_version": "sdxl_base_v1"}
    save_file(tensors, room / "style.safetensors", tags)
    said = CliRunner().invoke(app, ["inspect", str(room / "style.safetensors")])
    lines = dict(line.split(None, 1) for line in said.stdout.splitlines())
    assert lines["adapter"] == "LoRA" and lines["rank"] == "3" and lines["words"] == "gold, a lion"
    assert "made for   Stable Diffusion XL" in said.stdout
    as_json = json.loads(CliRunner().invoke(app, ["inspect", "style", "--json"]).stdout)
    assert as_json["family"] == "Stable Diffusion XL" and as_json["ranks"] == [3]
    listed = json.loads(CliRunner().invoke(app, ["models", "--json"]).stdout)
    (row,) = (one for one in listed if one["name"] == "style")
    assert row["what"] == "LoRA for Stable Diffusion XL, rank 3, words: gold, a lion" and row["name"] == "style"


def test_words_are_the_trainers(tmp_path: Path) -> None:
    assert trained_words({"modelspec.trigger_phrase": "in gold"}) == ("in gold",)
    assert trained_words({"ss_tag_frequency": "no json"}) == trained_words({}) == ()
    save_file({"a.b.weight": torch.ones(2, 2, 2), "a.c.weight": torch.ones(2, 2, 2)}, tmp_path / "a.safetensors")
    assert describe_file(tmp_path / "a.safetensors") is None
