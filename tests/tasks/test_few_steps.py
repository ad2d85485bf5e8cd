"""Little to go on: one step, a small strength, no words, the largest seeds. Something is drawn all the same."""

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

import sfumato
from sfumato.api import Result, StableDiffusion
from sfumato.errors import SfumatoError
from sfumato.provenance import infotext

SMALL = {"width": 16, "height": 16, "watermark": False}
LARGEST = 2**64 - 1


@pytest.fixture
def sd(model: str) -> StableDiffusion:
    return sfumato.load(model)


PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8))
MASK = Image.new("L", (16, 16), 255)
ON_A_PICTURE: dict[str, Callable[..., Result]] = {
    "img2img": lambda sd, prompt, **options: sd.img2img(PICTURE, prompt, **options),
    "inpaint": lambda sd, prompt, **options: sd.inpaint(PICTURE, prompt, mask=MASK, **options),
    "softly": lambda sd, prompt, **options: sd.inpaint(PICTURE, prompt, mask=MASK, soft=True, blur=0, **options),
    "upscale": lambda sd, prompt, **options: sd.upscale(PICTURE, prompt, scale=1, **options),
}


@pytest.mark.parametrize(("strength", "steps"), [(0.75, 1), (0.3, 1), (0.3, 3), (0.04, 20), (0.99, 1)])
@pytest.mark.parametrize("task", ON_A_PICTURE)
def test_a_strength_above_0_takes_a_step(sd: StableDiffusion, task: str, strength: float, steps: int) -> None:
    draw, own = ON_A_PICTURE[task], {} if task == "upscale" else SMALL
    one, other = (
        draw(sd, prompt, seed=seed, strength=strength, steps=steps, **own).images[0]
        for prompt, seed in (("a dog", 1), ("a castle", 2))
    )
    assert np.abs(np.asarray(one, int) - np.asarray(other, int)).max() > 1


def test_a_second_pass_takes_a_step(sd: StableDiffusion) -> None:
    options = SMALL | {"seed": 1, "steps": 2, "hires_scale": 2, "hires_strength": 0.1, "sampler": "euler"}
    calls = []
    sd.denoiser.network.register_forward_hook(lambda network, inputs, output: calls.append(output.shape[-1]))
    sd.txt2img("a cat", **options)
    assert calls == [8, 8, 16]


@pytest.mark.parametrize("prompt", ["", " \n"])
def test_without_words_the_unconditional_picture_is_drawn(sd: StableDiffusion, prompt: str) -> None:
    drawn = sd.txt2img(prompt, seed=1, steps=2, **SMALL)
    assert drawn.images == sd.txt2img("()", seed=1, steps=2, **SMALL).images
    assert infotext.parse(drawn.infotexts[0])[0] == prompt.strip()
    assert sd.img2img(PICTURE, prompt, seed=1, steps=2, **SMALL).images


def test_seeds_go_as_far_as_torch_takes_them(sd: StableDiffusion) -> None:
    options = SMALL | {"steps": 1}
    last = sd.txt2img("a cat", seed=LARGEST, n=2, **options)
    assert last.seeds == [LARGEST, 0]  # then they begin again
    assert last.images[1] == sd.txt2img("a cat", seed=0, **options).images[0]
    negative = sd.txt2img("a cat", seed=-5, **options)
    assert negative.seeds == [LARGEST - 4]
    assert negative.images == sd.txt2img("a cat", seed=LARGEST - 4, **options).images
    assert sd.txt2img("a cat", seed=-(2**63), rng="nv", **options).seeds == [2**63]
    for seed in (2**64, -(2**63) - 1):
        with pytest.raises(SfumatoError, match="seed is"):
            sd.txt2img("a cat", seed=seed, **options)
