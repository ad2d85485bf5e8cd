"""Pictures on top of pictures: what strength means, and how a picture comes to size."""

from collections.abc import Callable

import numpy as np
import pytest
from diffusers import StableDiffusionImg2ImgPipeline
from PIL import Image

import sfumato
from sfumato.api import StableDiffusion
from sfumato.errors import SfumatoError
from sfumato.families import sd1
from sfumato.images.resize import fitted, natural_size
from sfumato.images.tensors import to_pixels
from sfumato.pipeline.latents import decode, encode
from sfumato.pipeline.sampling import SamplingRun
from sfumato.provenance import infotext
from sfumato.settings.settings import Settings

SMALL = {"steps": 8, "seed": 3, "watermark": False}


@pytest.fixture
def sd(model: str) -> StableDiffusion:
    return sfumato.load(model)


@pytest.fixture
def picture() -> Image.Image:
    across = Image.linear_gradient("L").resize((32, 24))
    return Image.merge("RGB", (across, across.transpose(Image.Transpose.FLIP_TOP_BOTTOM), across))


@pytest.mark.parametrize("sampler", ["euler", "ddim", "dpmpp_2m", "dpmpp_sde"])
def test_strength_0_gives_the_picture_back_as_the_autoencoder_has_it(
    sd: StableDiffusion, picture: Image.Image, sampler: str
) -> None:
    (same,) = sd.img2img(picture, "a cat", strength=0, sampler=sampler, **SMALL).images
    assert same == decode(sd.vae, encode(sd.vae, to_pixels(picture)))


@pytest.mark.parametrize("sampler", ["euler", "ddim", "dpmpp_2m", "dpmpp_sde"])
def test_strength_1_takes_nothing_of_the_picture(sd: StableDiffusion, picture: Image.Image, sampler: str) -> None:
    drawn = sd.img2img(picture, "a cat", strength=1, sampler=sampler, **SMALL)
    words = sd.txt2img("a cat", sampler=sampler, width=32, height=24, **SMALL)
    assert drawn.images == words.images and drawn.seeds == words.seeds


def test_more_strength_leaves_less_of_the_picture() -> None:
    sd = sfumato.load()
    known = sd.txt2img("a red heart", seed=2, watermark=False).images[0]

    def distance(strength: float) -> float:
        (drawn,) = sd.img2img(known, "a green tree", strength=strength, seed=1, steps=10, watermark=False).images
        return float(np.abs(np.asarray(drawn, float) - np.asarray(known, float)).mean())

    distances = [distance(strength) for strength in (0, 0.4, 0.7, 1)]
    assert distances == sorted(set(distances))


@pytest.mark.parametrize(("strength", "steps"), [(0, 0), (1e-9, 1), (0.01, 1), (0.3, 3), (0.29, 2), (0.99, 9), (1, 10)])
def test_strength_is_a_share_of_the_steps_rounded_down(sd: StableDiffusion, strength: float, steps: int) -> None:
    settings = Settings.of(sd.spec, "a cat", steps=10, sampler="euler", width=32, height=24)
    whole, way = SamplingRun.of(sd, settings), SamplingRun.of(sd, settings).from_strength(strength)
    assert len(way.sigmas) - 1 == steps
    assert way.sigmas.tolist() == whole.sigmas.tolist()[-steps - 1 :]


def test_diffusers_takes_the_same_steps(sd: StableDiffusion) -> None:
    class Scheduler:
        order, timesteps = 1, list(range(50))

    class Pipeline:
        scheduler = Scheduler()

    for strength in (0.1, 0.3, 0.57, 0.75, 0.9):
        _, theirs = StableDiffusionImg2ImgPipeline.get_timesteps(Pipeline(), 50, strength, "cpu")
        way = SamplingRun.of(
            sd, Settings.of(sd.spec, "a cat", steps=50, sampler="euler", width=32, height=24)
        ).from_strength(strength)
        assert len(way.sigmas) - 1 == theirs


def test_a_model_that_is_told_depth_is_told_that_of_the_picture(depth_model: str) -> None:
    sd, told = sfumato.load(depth_model), []
    sd.denoiser.network.register_forward_pre_hook(lambda network, inputs: told.append(inputs[2].concat))
    side = 4 * sd.spec.multiple
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    sd.img2img(Image.fromarray(noise), "a cat", strength=0.5, **SMALL | {"steps": 2})
    assert told[0].amin() == -1 and told[0].amax() == 1


@pytest.mark.parametrize("resize", ["crop", "stretch", "pad"])
def test_a_picture_comes_to_size(resize: str) -> None:
    image = Image.new("RGB", (40, 20), "red")
    image.paste("blue", (10, 0, 30, 20))
    colours = np.asarray(fitted(image, 20, 20, resize))
    assert colours.shape == (20, 20, 3)
    blue = (colours[10] == (0, 0, 255)).all(-1).mean()
    assert blue == pytest.approx({"crop": 1, "stretch": 0.5, "pad": 0.5}[resize], abs=0.2)
    assert (colours[0, 0] == colours[9, 0]).all()  # padding goes on with the outermost pixels


def test_natural_sizes() -> None:
    assert natural_size(Image.new("RGB", (500, 333)), sd1.SPEC) == (496, 336)
    assert natural_size(Image.new("RGB", (1, 3)), sd1.SPEC) == (8, 8)
    assert natural_size(Image.new("RGB", (8000, 2000)), sd1.SPEC) == (2048, 512)


@pytest.mark.parametrize("strength", [1.7, -0.1, float("nan"), "0.5", None, True])
def test_other_strengths_are_refused_at_once(sd: StableDiffusion, picture: Image.Image, strength: object) -> None:
    with pytest.raises(SfumatoError, match=r"strength is .*; choose a number from 0 to 1, such as 0.75"):
        sd.img2img(picture, "a cat", strength=strength, **SMALL)  # type: ignore[arg-type]


def test_bad_options_are_refused(sd: StableDiffusion, picture: Image.Image) -> None:
    with pytest.raises(SfumatoError, match="unknown resize 'zoom'; choose one of crop, stretch, pad"):
        sd.img2img(picture, "a cat", resize="zoom")  # type: ignore[arg-type]
    with pytest.raises(SfumatoError, match="unknown option 'stpes'; did you mean steps"):
        sd.img2img(picture, "a cat", stpes=3)  # type: ignore[call-arg]
    with pytest.raises(SfumatoError, match=r"unknown option 'zzz'; choose from steps, .*cfg, seed"):
        sd.txt2img("a cat", zzz=3)  # type: ignore[call-arg]


def test_the_command_writes_its_strength_down(
    run: Callable, refused: Callable, model: str, picture: Image.Image
) -> None:
    picture.save("in.png")
    options = ("--model", model, "--steps", 4, "--seed", 5, "--out", "out.png", "--overwrite")
    done = run("img2img", "in.png", "a cat", "--strength", 0.5, *options)
    assert done.exit_code == 0, done.output
    with Image.open("out.png") as image:
        prompt, _, fields = infotext.parse(image.info["parameters"])
        assert image.size == (32, 24)
    assert (prompt, fields["Denoising strength"], fields["Seed"]) == ("a cat", "0.5", "5")
    refused(run("img2img", "in.png", "a cat", "--strength", 1.7, *options), "strength is 1.7")
    refused(run("img2img", "no.png", "a cat", *options), "there is no file no.png")
    refused(run("img2img", "in.png", "a cat", "--resize", "zoom", *options), "'zoom'")
