"""The variants that ship: their sizes, their base, and that each does what it was made for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

import sfumato
from sfumato.api import StableDiffusion
from sfumato.hub.local_models import embedded_variants, find
from sfumato.loading.convert import convert
from sfumato.loading.inspect import inspect_checkpoint
from sfumato.pipeline.depth import depth_of

NAMES = ("emoji-depth", "emoji-fast", "emoji-inpainting", "emoji-unet")
MOST = 3 << 20  # bytes of each


def loaded(name: str) -> StableDiffusion:
    return sfumato.load(name, device="cpu")


def test_each_is_small_and_known_by_name() -> None:
    assert [path.stem for path in embedded_variants()] == list(NAMES)
    assert all(path.stat().st_size <= MOST for path in embedded_variants())
    assert all(find(name).path in embedded_variants() for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_is_whole_on_the_model_that_ships(name: str) -> None:
    found = inspect_checkpoint(find(name).path)
    assert found.problem is None and found.container == "variant"
    assert loaded(name).encode.tokenizer.vocab_size == loaded("emoji").encode.tokenizer.vocab_size


@pytest.mark.parametrize("name", NAMES)
def test_each_converts_to_a_folder_that_draws_the_same(name: str, tmp_path: Path) -> None:
    convert(find(name).path, tmp_path / "whole", "diffusers")
    images = [
        sfumato.load(one, device="cpu").txt2img("a red heart", seed=1, steps=2, watermark=False).images[0].tobytes()
        for one in (name, tmp_path / "whole")
    ]
    assert images[0] == images[1]


def test_few_steps_draw_what_the_prompt_says() -> None:
    model = loaded("emoji-fast")
    assert (model.spec.defaults.steps, model.spec.defaults.cfg) == (4, 1.0)
    for steps in (1, 2, 4):
        for colour, channel in (("red", 0), ("blue", 2)):
            image = model.txt2img(f"{colour} heart", seed=1, steps=steps, watermark=False).images[0]
            mean = np.asarray(image, float)[40:88, 40:88].mean((0, 1))
            assert mean.argmax() == channel, (steps, colour, mean)


def test_depth_decides_where_a_thing_is() -> None:
    model, masks = loaded("emoji-depth"), []
    for box in ((0, 64, 128, 192), (128, 64, 256, 192)):
        near = Image.new("L", (256, 256), 0)
        near.paste(255, box)
        image = model.depth2img(None, "a red heart", depth=near, seed=1, steps=4, watermark=False).images[0]
        red = np.asarray(image, float) @ (1, -0.5, -0.5) > 60
        inside = red[box[1] : box[3], box[0] : box[2]]
        assert inside.mean() > 0.5 and inside.sum() > 0.8 * red.sum(), (box, inside.mean(), red.sum())
        masks.append(red)
    assert (masks[0] & masks[1]).sum() < 0.1 * masks[0].sum()


def test_the_depth_of_a_picture_is_seen() -> None:
    model = loaded("emoji-depth")
    circle = Image.new("RGB", (256, 256), "white")
    ImageDraw.Draw(circle).ellipse((40, 90, 140, 190), fill="purple")
    assert model.depth is not None
    depth = depth_of(model.depth, circle, 16, 16)[0, 0]
    assert depth[6:11, 3:8].mean() > depth.mean() + 0.5


def test_the_small_unet_draws_what_the_prompt_says_in_six_languages() -> None:
    model = loaded("emoji-unet")
    assert (model.spec.family, model.spec.prediction) == ("sd1", "v") and model.prior is None
    hearts = ("red heart", "หัวใจสีแดง", "红心", "hati merah", "червоне серце", "赤いハート")
    for prompt, channel in (*((heart, 0) for heart in hearts), ("cactus", 1)):
        image = np.asarray(model.txt2img(prompt, seed=1, steps=6, watermark=False).images[0], float)
        mean = image[96:160, 96:160].mean((0, 1))
        assert mean.argmax() == channel and mean[channel] > np.sort(mean)[1] + 30, (prompt, mean)
        assert (image[:16].mean() > 220) and (image[-12:, :12].mean() > 220), f"{prompt}: white around it"


@pytest.mark.slow
def test_the_small_unet_is_a_pipeline_of_diffusers(tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    convert(find("emoji-unet").path, tmp_path / "whole", "diffusers", dtype=torch.float32)
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path / "whole", safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline("red heart", num_inference_steps=6, guidance_scale=2.5, generator=torch.manual_seed(1)).images[0]
    mean = np.asarray(made, float)[96:160, 96:160].mean((0, 1))
    assert made.size == (256, 256) and mean.argmax() == 0 and mean[0] > np.sort(mean)[1] + 30
