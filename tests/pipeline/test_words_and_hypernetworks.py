"""Embeddings and hypernetworks as users name them: options, prompts, model folders, sd.adapters."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import sfumato
from sfumato import StableDiffusion
from sfumato.errors import SfumatoError, SfumatoWarning

SIZE: dict[str, Any] = {"width": 32, "height": 32, "steps": 2, "seed": 3, "cfg": 3.0}


@pytest.fixture
def sd(model: str) -> StableDiffusion:
    return sfumato.load(model)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A web UI's folder, empty, in the user's settings."""
    folder = tmp_path / "webui"
    for name in ("models/Stable-diffusion", "models/hypernetworks", "embeddings"):
        (folder / name).mkdir(parents=True)
    monkeypatch.setenv("SFUMATO_MODELS", str(folder))
    return folder


def drawn(model: StableDiffusion, prompt: str, negative: str = "", **options: Any) -> np.ndarray:
    return np.asarray(model.txt2img(prompt, negative, **SIZE | options).images[0])


def vectors(model: StableDiffusion, words: str) -> Tensor:
    """The vectors of words, which are then read as these words."""
    encode = model.encode
    ids = encode.tokenizer.encode(words)
    return encode.towers[0].text_model.embeddings.token_embedding.weight[ids].detach().clone()


def embedding(model: StableDiffusion, path: Path, words: str = "blue cat") -> Path:
    save_file({"emb_params": vectors(model, words)}, path)
    return path


def hypernetwork(model: StableDiffusion, path: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    width = model.spec.unet.context_dim
    parts = [torch.nn.Sequential(torch.nn.Linear(width, width)).state_dict() for _ in range(2)]
    layers = [{f"linear.{name}": one for name, one in part.items()} for part in parts]
    torch.save({width: tuple(layers), "name": "x"}, path)
    return path


def test_every_way_to_name_an_embedding(sd: StableDiffusion, root: Path) -> None:
    plain, meant = drawn(sd, "a thing, red"), drawn(sd, "a blue cat, red")
    path = embedding(sd, root / "embeddings" / "thing.safetensors")
    assert not np.array_equal(plain, meant)
    same: dict[str, Callable[[], np.ndarray]] = {
        "bare": lambda: drawn(sd, "a thing, red"),
        "marked": lambda: drawn(sd, "a embedding:thing, red"),
        "marked otherwise": lambda: drawn(sd, "a <embedding:Thing>, red"),
        "comfyui": lambda: drawn(sd, "a embedding:thing, red", prompt_syntax="comfyui"),
        "invokeai": lambda: drawn(sd, "a <thing>, red", prompt_syntax="invokeai"),
        "option": lambda: drawn(sd, "a thing, red", embedding=[str(path)]),
        "edited": lambda: drawn(sd, "a [dog:embedding:thing:0], red"),
    }
    for way, draw in same.items():
        assert np.array_equal(draw(), meant), way
    assert np.array_equal(drawn(sd, "a thing, red", prompt_syntax="comfyui"), plain), "ComfyUI's are always marked"
    assert np.array_equal(drawn(sd, "a (thing:1.3)"), drawn(sd, "a (blue cat:1.3)"))
    assert np.array_equal(drawn(sd, "red", "thing"), drawn(sd, "red", "blue cat"))
    assert np.array_equal(drawn(sd, "[red:thing:1]"), drawn(sd, "[red:blue cat:1]"))


def test_what_is_added_is_known_until_it_is_removed(sd: StableDiffusion, tmp_path: Path) -> None:
    plain, meant = drawn(sd, "a thing"), drawn(sd, "a blue cat")
    path = embedding(sd, tmp_path / "thing.safetensors")
    with sd.adapters.using(path) as file:
        assert (file.kind, file.name) == ("embedding", "thing")
        assert np.array_equal(drawn(sd, "a thing"), meant)
        assert np.array_equal(drawn(sd, "a thing", prompt_syntax="comfyui"), meant)
    assert np.array_equal(drawn(sd, "a thing"), plain)
    sd.adapters.add(path, name="gadget")
    assert np.array_equal(drawn(sd, "a gadget"), meant) and np.array_equal(drawn(sd, "a thing"), plain)
    sd.adapters.remove("gadget")
    assert not len(sd.adapters)


def test_pictures_of_a_request_may_name_different_ones(sd: StableDiffusion, root: Path) -> None:
    embedding(sd, root / "embeddings" / "one.safetensors")
    embedding(sd, root / "embeddings" / "two.safetensors", "red dog")
    both = sd.txt2img(["a one", "a two"], **SIZE)
    assert np.array_equal(np.asarray(both.images[0]), drawn(sd, "a blue cat"))
    assert np.array_equal(np.asarray(both.images[1]), drawn(sd, "a red dog", seed=4))


def test_those_of_other_families(sd: StableDiffusion, root: Path) -> None:
    save_file({"clip_l": torch.ones(1, 768), "clip_g": torch.ones(1, 1280)}, root / "embeddings" / "xl.safetensors")
    for words in ("a embedding:xl", "a <embedding:xl>"):
        with pytest.raises(SfumatoError, match=r"the embedding xl \(xl.safetensors\) was made for XL; this model is "):
            drawn(sd, words)
    with pytest.warns(SfumatoWarning, match="made for XL; .*; it is read as words"):
        found = drawn(sd, "an xl thing")
    (root / "embeddings" / "xl.safetensors").unlink()
    assert np.array_equal(found, drawn(sd, "an xl thing"))


def test_what_is_not_there(sd: StableDiffusion, root: Path, tmp_path: Path) -> None:
    with pytest.raises(SfumatoError, match=r"no adapter 'none'; .*write \\embedding:none to have it read as words"):
        drawn(sd, "a embedding:none")
    with pytest.raises(SfumatoError, match="no adapter 'none'"):
        drawn(sd, "a <hypernet:none:1>")
    with pytest.raises(SfumatoError, match="no adapter 'none'"):
        drawn(sd, "red", embedding=["none"])
    path = hypernetwork(sd, tmp_path / "h.pt")
    with pytest.raises(SfumatoError, match=r"h\.pt is a hypernetwork; give an embedding"):
        drawn(sd, "red", embedding=[str(path)])
    with pytest.raises(SfumatoError, match="the negative prompt asks for <hypernet:h:1>, which changes the whole"):
        drawn(sd, "red", "<hypernet:h:1>")


def test_hypernetworks_by_every_name(sd: StableDiffusion, root: Path) -> None:
    plain = drawn(sd, "red")
    path = hypernetwork(sd, root / "models" / "hypernetworks" / "style.pt")
    tagged = drawn(sd, "red<hypernet:style:0.7>")
    assert not np.array_equal(tagged, plain)
    assert np.array_equal(drawn(sd, "red", hypernetwork=["style:0.7"]), tagged)
    assert np.array_equal(drawn(sd, "red", hypernetwork=[f"{path}:0.7"]), tagged)
    with sd.adapters.using("style", 0.7):
        assert np.array_equal(drawn(sd, "red"), tagged)
        assert np.array_equal(drawn(sd, "red<hypernet:style:0>"), plain), "asked for at another strength"
    assert np.array_equal(drawn(sd, "red"), plain)
    assert np.array_equal(drawn(sd, "red", hypernetwork=["style:0"]), plain)


def test_tokens_show_them(run: Any, model: str, sd: StableDiffusion, root: Path) -> None:
    embedding(sd, root / "embeddings" / "thing.safetensors")
    found = json.loads(run("tokens", "a thing, red", "--model", model, "--json").stdout)
    (part,) = found["parts"]
    (window,) = part["readings"][0]["windows"]
    texts = [piece["text"] for piece in window]
    assert texts.count("<thing>") == len(vectors(sd, "blue cat")) and "thing" not in texts


def test_a_picture_says_what_it_was_drawn_with(sd: StableDiffusion, root: Path) -> None:
    embedding(sd, root / "embeddings" / "thing.safetensors")
    hypernetwork(sd, root / "models" / "hypernetworks" / "style.pt")
    embedding(sd, root / "embeddings" / "other.safetensors")
    result = sd.txt2img("a thing<hypernet:style:0.5>", **SIZE)
    (text,) = result.infotexts
    digits = sd.adapters.add("thing").sha256[:12]
    assert f'TI hashes: "thing: {digits}"' in text and "other" not in text
    assert 'Hypernet hashes: "style: ' in text
