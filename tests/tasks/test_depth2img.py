"""Pictures with the depth of a picture."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sfumato
from sfumato.api import StableDiffusion
from sfumato.errors import SfumatoError

SMALL = {"steps": 2, "seed": 3, "watermark": False}


@pytest.fixture
def sd(depth_model: Path) -> StableDiffusion:
    return sfumato.load(depth_model)


@pytest.fixture
def picture(sd: StableDiffusion) -> Image.Image:
    side = 4 * sd.spec.multiple
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8))


def test_a_given_depth_is_told(sd: StableDiffusion, picture: Image.Image) -> None:
    told: list[torch.Tensor] = []
    sd.denoiser.network.register_forward_pre_hook(lambda network, inputs: told.append(inputs[2].concat))
    ramp = Image.linear_gradient("L").resize(picture.size)
    sd.depth2img(picture, "a cat", depth=ramp, **SMALL)
    rows = told[0][0, 0].mean(1)
    assert rows[0] == -1 and rows[-1] == 1 and (rows.diff() > 0).all()


def test_the_models_own_depth_is_that_of_img2img(sd: StableDiffusion, picture: Image.Image) -> None:
    for strength in (0.5, 1):
        own = sd.depth2img(picture, "a cat", strength=strength, **SMALL).images
        assert own == sd.img2img(picture, "a cat", strength=strength, **SMALL).images


def test_depth_alone_is_enough(sd: StableDiffusion, picture: Image.Image) -> None:
    ramp = Image.linear_gradient("L").resize(picture.size)
    alone = sd.depth2img(None, "a cat", depth=ramp, **SMALL).images
    assert alone == sd.depth2img(picture, "a cat", depth=ramp, strength=1, **SMALL).images
    assert alone != sd.depth2img(None, "a cat", depth=ramp.rotate(180), **SMALL).images


def test_bad_input_is_refused(sd: StableDiffusion, model: str, picture: Image.Image) -> None:
    with pytest.raises(SfumatoError, match=r"tiny is .*, which is not conditioned on depth; give a model that is"):
        sfumato.load(model).depth2img(picture, "a cat")
    with pytest.raises(SfumatoError, match="nothing to take depth from"):
        sd.depth2img(None, "a cat")
    with pytest.raises(SfumatoError, match=r"strength is 1.7"):
        sd.depth2img(picture, "a cat", strength=1.7)


def test_the_command(run: Callable, refused: Callable, depth_model: Path, model: str, picture: Image.Image) -> None:
    picture.save("in.png")
    options = ("--steps", 2, "--seed", 3)
    done = run(
        "depth2img", "in.png", "a cat", "--model", depth_model, *options, "--out", "out.png", "--save-depth", "d.png"
    )
    assert done.exit_code == 0, done.output
    with Image.open("out.png") as out, Image.open("d.png") as depth:
        assert out.size == picture.size == depth.size
        assert "Denoising strength: 0.9, Depth: yes" in out.info["parameters"]
    done = run("depth2img", "d.png", "a cat", "--is-depth", "--model", depth_model, *options, "--out", "more/")
    assert done.exit_code == 0, done.output
    refused(run("depth2img", "in.png", "a cat", "--model", model), "which is not conditioned on depth")
    refused(run("depth2img", "in.png", "a cat", "--depth", "no.png", "--model", depth_model), "no.png")
