"""The safety checker of 1.x: verdicts are diffusers', pictures are blanked, and conversions keep it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPImageProcessor

import sfumato
from sfumato.errors import SfumatoError, SfumatoWarning
from sfumato.loading.convert import convert
from sfumato.provenance import infotext

SMALL: dict[str, Any] = {"steps": 1, "seed": 3, "width": 32, "height": 32}
VISION = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1,
          "image_size": 28, "patch_size": 14, "projection_dim": 24, "hidden_act": "quick_gelu"}  # fmt: skip
SIZE = VISION["image_size"]


@pytest.fixture(scope="module")
def theirs() -> StableDiffusionSafetyChecker:
    """Random weights, and thresholds of which about half of all pictures stay below."""
    torch.manual_seed(0)
    result = StableDiffusionSafetyChecker(CLIPConfig(vision_config=VISION, projection_dim=24)).eval()
    for parameter in result.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    result.concept_embeds_weights.data.fill_(0.43)
    result.special_care_embeds_weights.data.fill_(0.3)
    return result


@pytest.fixture
def model_folder(model: str, theirs: StableDiffusionSafetyChecker, tmp_path: Path) -> Path:
    """A model of 1.x as it was published: with the checker in its folder."""
    path = tmp_path / "model"
    pipeline = StableDiffusionPipeline.from_pretrained(model, safety_checker=None)
    processor = CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})
    pipeline.register_modules(safety_checker=theirs, feature_extractor=processor)
    pipeline.save_pretrained(path)
    return path


def pictures(count: int) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    noise = (rng.integers(0, 255, (6, 8, 3), np.uint8) for _ in range(count))
    return [Image.fromarray(one).resize((40, 32), Image.Resampling.BICUBIC) for one in noise]


def test_verdicts_are_theirs(theirs: StableDiffusionSafetyChecker, tmp_path: Path) -> None:
    theirs.save_pretrained(tmp_path / "checker")
    check = sfumato.load_safety_checker(tmp_path / "checker", "cpu")
    shown = pictures(40)
    processor = CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})
    pixels = processor(shown, return_tensors="pt").pixel_values
    blank = [np.ones((4, 4, 3)) for _ in shown]
    with torch.no_grad():
        _, expected = theirs(pixels, blank)
    assert [check(one) for one in shown] == expected
    assert len({*expected}) == 2, "the pictures tell nothing"
    older = {name.replace("vision_model.", "vision_model.vision_model.", 1): tensor
             for name, tensor in load_file(tmp_path / "checker" / "model.safetensors").items()}  # fmt: skip
    save_file(
        older | {"vision_model.vision_model.embeddings.position_ids": torch.arange(5)}, tmp_path / "old.safetensors"
    )
    again = sfumato.load_safety_checker(tmp_path / "old.safetensors", "cpu")
    assert [again(one) for one in shown[:10]] == expected[:10]


def test_unsafe_pictures_are_black_and_it_is_said(model_folder: Path) -> None:
    sd = sfumato.load(model_folder, "cpu")
    plain = sd.txt2img("a cat", **SMALL, n=8)
    unsafe = [sfumato.load_safety_checker(model_folder, "cpu")(image) for image in plain.images]
    if len({*unsafe}) == 1:
        pytest.fail("the pictures tell nothing")
    with pytest.warns(SfumatoWarning, match=r"the picture of seed \d+ was blanked: the safety checker"):
        checked = sd.txt2img("a cat", **SMALL, n=8, safety="model")
    for k, blank in enumerate(unsafe):
        assert checked.images[k].getextrema() == ((0, 0),) * 3 if blank else checked.images[k] == plain.images[k]
        assert infotext.parse(checked.infotexts[k])[2].get("Safety checker") == ("blanked" if blank else None)
    assert checked.latents is None and plain.latents is not None
    sd.safety_checker = sfumato.load_safety_checker(model_folder, "cpu")
    with pytest.warns(SfumatoWarning, match="was blanked"):
        assert sd.txt2img("a cat", **SMALL, n=8).images == checked.images


def test_a_conversion_keeps_it(model_folder: Path, tmp_path: Path) -> None:
    convert(model_folder, tmp_path / "half", "diffusers", dtype=torch.float16)
    before, after = (load_file(path / "safety_checker/model.safetensors") for path in (model_folder, tmp_path / "half"))
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    opened = StableDiffusionPipeline.from_pretrained(tmp_path / "half")
    assert isinstance(opened.safety_checker, StableDiffusionSafetyChecker) and opened.feature_extractor is not None
    convert(tmp_path / "half", tmp_path / "one.safetensors", "original")
    assert not any("safety" in name for name in load_file(tmp_path / "one.safetensors"))
    convert(tmp_path / "one.safetensors", tmp_path / "back", "diffusers")
    assert json.loads((tmp_path / "back" / "model_index.json").read_text())["safety_checker"] == [None, None]


def test_what_is_no_checker(model: str, model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SfumatoError, match="comes without a safety checker"):
        sfumato.load(model, "cpu").txt2img("a cat", **SMALL, safety="model")
    with pytest.raises(SfumatoError, match="is no safety checker; give its file or folder"):
        sfumato.load_safety_checker(model_folder / "unet", "cpu")
    file = model_folder / "safety_checker" / "model.safetensors"
    tensors = load_file(file)
    tensors.pop("concept_embeds_weights")
    save_file(tensors, file)
    with pytest.raises(SfumatoError, match=r"no complete safety checker: 1 missing \(concept_embeds_weights\)"):
        sfumato.load_safety_checker(model_folder, "cpu")
