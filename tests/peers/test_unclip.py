"""Stable unCLIP 2.1: variations of a picture equal diffusers', from folders and from single files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableUnCLIPImg2ImgPipeline
from PIL import Image
from safetensors.torch import load_file, save_file

import sfumato
import tiny
from sfumato import SfumatoError, StableDiffusion
from sfumato.errors import SfumatoWarning
from sfumato.families import family
from sfumato.loading.convert import convert
from sfumato.text.tokenizer import CLIPTokenizer

NAME, LEVEL = "sd2_unclip", 300
SMALL: dict[str, Any] = {"width": 64, "height": 64, "steps": 3, "cfg": 4.0, "sampler": "ddim", "schedule": "leading",
                         "watermark": False, "seed": 5}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("unclip") / "model", family(NAME))


@pytest.fixture(scope="module")
def sd(folder: Path) -> StableDiffusion:
    return sfumato.load(folder, "cpu")


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 255, (5, 6, 3), np.uint8)
    return Image.fromarray(noise).resize((48, 40), Image.Resampling.BICUBIC)


def test_variations_are_theirs(folder: Path, sd: StableDiffusion, picture: Image.Image) -> None:
    theirs = StableUnCLIPImg2ImgPipeline.from_pretrained(folder)
    theirs.scheduler = DDIMScheduler.from_config(theirs.scheduler.config, clip_sample=False, set_alpha_to_one=True)
    theirs.set_progress_bar_config(disable=True)
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    for level in (0, LEVEL):
        ours = sd.variations(picture, "a cat", noise_level=level, latents=latents, **SMALL)
        expected = theirs(
            picture, "a cat", height=64, width=64, num_inference_steps=3, guidance_scale=4.0, noise_level=level,
            latents=latents, generator=torch.Generator().manual_seed(SMALL["seed"]), output_type="latent",
        )  # fmt: skip
        assert ours.latents is not None
        scaled = expected.images if isinstance(expected.images, torch.Tensor) else torch.as_tensor(expected.images)
        torch.testing.assert_close(ours.latents, scaled.float(), rtol=1e-3, atol=2e-4)


def test_pictures_noise_and_seeds_count(sd: StableDiffusion, picture: Image.Image, tmp_path: Path) -> None:
    picture.save(tmp_path / "one.png")
    plain = sd.variations(picture, "a cat", **SMALL)
    assert plain.images == sd.txt2img("a cat", image_prompt=str(tmp_path / "one.png"), **SMALL).images
    assert plain.images != sd.variations(picture, "a cat", noise_level=500, **SMALL).images
    assert plain.images != sd.variations(Image.new("RGB", (40, 40), "red"), "a cat", **SMALL).images
    several = sd.variations(picture, "a cat", noise_level=500, n=2, **SMALL)
    alone = sd.variations(picture, "a cat", noise_level=500, **{**SMALL, "seed": 6})
    assert several.images[1] == alone.images[0] and several.images[0] != several.images[1]
    assert "Image prompt: " in sd.txt2img(image_prompt=str(tmp_path / "one.png"), **SMALL).infotexts[0]


def test_a_single_file_is_read_and_written(
    folder: Path, sd: StableDiffusion, picture: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CLIPTokenizer, "openai", lambda: tiny.WORDS)
    convert(folder, tmp_path / "one.safetensors", "original")
    one = sfumato.load(tmp_path / "one.safetensors", "cpu")
    assert one.spec.family == NAME and one.spec.image == sd.spec.image
    options = {**SMALL, "noise_level": LEVEL}
    expected = sd.variations(picture, "a cat", **options).images
    assert one.variations(picture, "a cat", **options).images == expected
    convert(tmp_path / "one.safetensors", tmp_path / "back", "diffusers")
    assert sfumato.load(tmp_path / "back", "cpu").variations(picture, "a cat", **options).images == expected


def test_a_single_file_may_lack_the_statistics_of_vectors(
    folder: Path, picture: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the published ones do; they are those of no normalisation, which is right for -h."""
    monkeypatch.setattr(CLIPTokenizer, "openai", lambda: tiny.WORDS)
    convert(folder, tmp_path / "one.safetensors", "original")
    tensors = load_file(tmp_path / "one.safetensors")
    save_file({name: one for name, one in tensors.items() if "data_" not in name}, tmp_path / "bare.safetensors")
    with pytest.warns(SfumatoWarning, match="does not say the mean and spread"):
        bare = sfumato.load(tmp_path / "bare.safetensors", "cpu")
    convert(tmp_path / "bare.safetensors", tmp_path / "made", "diffusers")
    opened = StableUnCLIPImg2ImgPipeline.from_pretrained(tmp_path / "made")
    assert opened.image_normalizer.mean.abs().max() == 0 and (opened.image_normalizer.std == 1).all()
    made = sfumato.load(tmp_path / "made", "cpu")
    options = {**SMALL, "noise_level": LEVEL}
    assert bare.variations(picture, **options).images == made.variations(picture, **options).images


def test_what_cannot_be_done_is_said(sd: StableDiffusion, model: str, picture: Image.Image) -> None:
    with pytest.raises(SfumatoError, match="which varies a picture; give one with image_prompt"):
        sd.txt2img("a cat", **SMALL)
    with pytest.raises(SfumatoError, match="draws no variations of a picture; leave image_prompt out"):
        sfumato.load(model, "cpu").variations(picture, **SMALL)
