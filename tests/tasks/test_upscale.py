"""Drawing a picture larger: as diffusers' pipeline does it, and what may be asked of it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionUpscalePipeline
from PIL import Image

import sfumato
from sfumato.errors import SfumatoError
from sfumato.model import StableDiffusion
from sfumato.provenance import infotext
from sfumato.tasks.upscale import padded

OPTIONS = {"steps": 4, "cfg": 3.0, "seed": 7, "watermark": False}


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    levels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(levels)


def levels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, int)


@pytest.fixture(scope="module")
def model(upscaler: Path) -> StableDiffusion:
    return sfumato.load(upscaler, device="cpu")


@pytest.mark.parametrize("noise_level", [0, 350])
def test_equals_diffusers(model: StableDiffusion, upscaler: Path, noise_level: int) -> None:
    small = picture(24, 16)
    (ours,) = model.upscale(small, "a cat", "a dog", noise_level=noise_level, **OPTIONS).images
    pipeline = StableDiffusionUpscalePipeline.from_pretrained(upscaler)
    pipeline.set_progress_bar_config(disable=True)
    (theirs,) = pipeline(
        "a cat",
        small,
        negative_prompt="a dog",
        num_inference_steps=OPTIONS["steps"],
        guidance_scale=OPTIONS["cfg"],
        noise_level=noise_level,
        generator=torch.Generator().manual_seed(OPTIONS["seed"]),
    ).images
    assert ours.size == theirs.size == (96, 64)
    assert levels(ours).std() > 1
    assert np.abs(levels(ours) - levels(theirs)).max() <= 2


def test_every_setting_counts(model: StableDiffusion) -> None:
    small = picture(9, 7)
    done = model.upscale(small, **OPTIONS, n=2)
    assert [image.size for image in done.images] == [(36, 28)] * 2 and done.seeds == [7, 8]
    prompt, _, fields = infotext.parse(done.infotexts[1])
    assert (prompt, fields["Noise level"], fields["Size"], fields["Seed"]) == ("", "20", "36x28", "8")
    plain, second = map(levels, done.images)
    assert np.abs(levels(model.upscale(small, **OPTIONS | {"seed": 8}).images[0]) - second).max() <= 1
    others = [
        model.upscale(picture(9, 7, seed=1), **OPTIONS),
        model.upscale(small, "a cat", **OPTIONS),
        model.upscale(small, noise_level=21, **OPTIONS),
        model.upscale(small, **OPTIONS, sampler="dpmpp_2m_sde"),
    ]
    assert all((levels(other.images[0]) != plain).any() for other in others)


def test_sides_are_filled_up_at_the_end() -> None:
    small = picture(9, 8)
    pixels = padded(small, 4)
    assert pixels.shape == (1, 3, 8, 12)
    assert torch.equal(pixels[:, :, :, 9:], pixels[:, :, :, 8:9].expand(-1, -1, -1, 3))
    assert np.abs((pixels[0, :, :, :9].permute(1, 2, 0).numpy() + 1) * 127.5 - levels(small)).max() < 1e-4


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda model: model.upscale(picture(513, 512)), "513x512; at most 262,144 pixels"),
        (lambda model: model.upscale(picture(8, 8), noise_level=351), "351; choose a whole number from 0 to 350"),
        (lambda model: model.upscale(picture(8, 8), noise_level=0.5), "0.5; choose a whole number"),
        (lambda model: model.upscale("no.png"), "there is no file no.png"),
        (lambda model: model.txt2img("a cat"), "nothing from words alone; use `sfumato upscale` or sd.upscale"),
    ],
)
def test_what_cannot_be_done_is_refused(
    model: StableDiffusion, act: Callable[[StableDiffusion], object], message: str
) -> None:
    with pytest.raises(SfumatoError, match=message.replace(".", r"\.")):
        act(model)


def test_other_models_draw_nothing_larger() -> None:
    with pytest.raises(SfumatoError, match="which draws no picture larger; give an upscaler"):
        sfumato.load(device="cpu").upscale(picture(8, 8))
