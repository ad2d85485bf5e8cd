"""LoRAs in pictures' settings: written as web UIs write them, and found again by name or by hash."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import sfumato
from sfumato.api import StableDiffusion
from sfumato.errors import SfumatoError
from sfumato.images.files import save
from sfumato.provenance import infotext
from tiny.adapters import random_lora

SMALL = {"width": 64, "height": 64, "steps": 2, "seed": 1, "cfg": 3.0}


@pytest.fixture
def sd(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StableDiffusion:
    monkeypatch.setenv("SFUMATO_MODELS", str(tmp_path / "web"))
    return sfumato.load(model)


@pytest.fixture
def lora(sd: StableDiffusion, tmp_path: Path) -> Path:
    path = tmp_path / "web" / "models" / "Lora" / "style.safetensors"
    path.parent.mkdir(parents=True)
    save_file(random_lora(sd.denoiser.network, 0.2), path, {"ss_output_name": "trained"})
    return path


def test_what_options_and_the_model_bring_is_written_as_tags(sd: StableDiffusion, lora: Path) -> None:
    drawn = sd.txt2img("a cat", "a dog", lora=["style:0.8:0.5"], **SMALL)
    prompt, negative, fields = infotext.parse(drawn.infotexts[0])
    content = lora.read_bytes()
    digits = hashlib.sha256(content[8 + int.from_bytes(content[:8], "little") :]).hexdigest()[:12]
    assert prompt == "a cat <lora:style:0.8:0.5>" and negative == "a dog"
    assert fields["Lora hashes"] == f"style: {digits}" and "Lora" not in fields
    with sd.adapters.using("style", 0.5, 0.8):
        again = sd.txt2img("a cat", "a dog", **SMALL)
    assert again.infotexts == drawn.infotexts or infotext.parse(again.infotexts[0])[0] == "a cat <lora:style:0.8:0.5>"
    named = sd.txt2img("a <lora:style:0.3> cat", **SMALL)
    assert infotext.parse(named.infotexts[0])[0] == "a <lora:style:0.3> cat"
    for name in ("trained", digits, hashlib.sha256(content).hexdigest()[:10], "STYLE", "style.safetensors"):
        assert sd.txt2img("a cat", "a dog", lora=[f"{name}:0.8:0.5"], **SMALL)[0] == drawn[0]


@pytest.mark.parametrize("syntax", ["a1111", "comfyui", "plain"])
def test_pictures_are_drawn_again_with_their_loras(
    syntax: str, sd: StableDiffusion, lora: Path, tmp_path: Path
) -> None:
    how = {"lora": ["style:te=0.3:unet=0.8:lbw=MID=0.5:during=0%-50%"], "prompt_syntax": syntax}
    drawn = sd.txt2img("a cat", **how, **SMALL)
    assert drawn[0] != sd.txt2img("a cat", prompt_syntax=syntax, **SMALL)[0]
    save(drawn[0], tmp_path / "a.png", drawn.infotexts[0])
    assert sd.replay(tmp_path / "a.png")[0] == drawn[0]


def test_a_lora_of_another_name_is_found_by_its_hash(sd: StableDiffusion, lora: Path, tmp_path: Path) -> None:
    drawn = sd.txt2img("a cat <lora:style:0.8>", **SMALL)
    save(drawn[0], tmp_path / "a.png", drawn.infotexts[0])
    lora.rename(lora.with_name("other name.safetensors"))
    fresh = sfumato.load(sd.path)
    again = fresh.replay(tmp_path / "a.png")
    assert again[0] == drawn[0] and "<lora:other name:0.8>" in again.infotexts[0]
    lora.with_name("other name.safetensors").unlink()
    with pytest.raises(SfumatoError, match="there is no adapter 'style'"):
        sfumato.load(sd.path).replay(tmp_path / "a.png")


def test_a_file_from_elsewhere_is_known_by_its_name_later(sd: StableDiffusion, lora: Path, tmp_path: Path) -> None:
    path = lora.rename(tmp_path / "elsewhere.safetensors")
    drawn = sd.txt2img("a cat", lora=[str(path)], **SMALL)
    save(drawn[0], tmp_path / "a.png", drawn.infotexts[0])
    assert str(tmp_path) not in drawn.infotexts[0]
    assert sd.replay(tmp_path / "a.png")[0] == drawn[0]


def test_a_grid_has_loras_as_an_axis(sd: StableDiffusion, lora: Path) -> None:
    _, table = sd.grid("a cat", "", "lora=none,style:0.5,style:1", **SMALL)
    said = [infotext.parse(cell["infotext"])[0] for cell in table["cells"]]
    assert said == ["a cat", "a cat <lora:style:0.5>", "a cat <lora:style:1>"]


def test_embeddings_of_another_name_are_found_by_their_hash(sd: StableDiffusion, tmp_path: Path) -> None:
    room, width = tmp_path / "web" / "embeddings", sd.spec.text.hidden_size
    for folder in (room, tmp_path / "web" / "models" / "Lora"):
        folder.mkdir(parents=True)
    torch.manual_seed(0)
    save_file({"emb_params": torch.randn(2, width)}, room / "bad.safetensors")
    drawn = sd.txt2img("a cat", "dull, bad, (bad:1.2)", **SMALL)
    assert "TI hashes" in infotext.parse(drawn.infotexts[0])[2]
    assert drawn[0] != sd.txt2img("a cat", "dull, x, (x:1.2)", **SMALL)[0]
    save(drawn[0], tmp_path / "a.png", drawn.infotexts[0])
    (room / "bad.safetensors").rename(room / "worse.safetensors")
    assert sfumato.load(sd.path).replay(tmp_path / "a.png")[0] == drawn[0]
