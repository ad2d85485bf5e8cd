"""Part of a picture drawn anew: nothing else changes, every option does something, and what cannot be done says so."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sfumato
from sfumato.api import Result, StableDiffusion
from sfumato.errors import SfumatoError
from sfumato.images.files import open_image
from sfumato.provenance import infotext
from sfumato.provenance.watermark import read as read_watermark
from sfumato.tasks.inpaint import InpaintOptions, drawn_size

SMALL = {"steps": 4, "seed": 3}
SIZE = (45, 33)  # no multiple of anything
BOX = (11, 6, 30, 21)


@pytest.fixture
def sd(model: str) -> StableDiffusion:
    return sfumato.load(model)


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)).resize(SIZE)


@pytest.fixture
def mask() -> Image.Image:
    mask = Image.new("L", SIZE)
    mask.paste(255, BOX)
    return mask


def changed(result: Result, picture: Image.Image) -> np.ndarray:
    return (np.asarray(result.images[0]) != np.asarray(picture)).any(-1)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"blur": 0},
        {"blur": 9, "soft": True},
        {"only_masked": True, "padding": 4, "width": 32, "height": 24},
        {"width": 24, "height": 16},
        {"strength": 0.5, "start": "original"},
        {"strength": 0},
        {"sampler": "dpmpp_sde", "watermark": False},
        {"sampler": "lcm", "n": 2},
        {"sampler": "euler", "cfg_pp": True, "variation_strength": 0.3},
        {"sampler": "ddim", "schedule": "karras"},
    ],
    ids=str,
)
def test_what_the_mask_leaves_out_comes_back_bit_by_bit(
    sd: StableDiffusion, picture: Image.Image, mask: Image.Image, options: dict, tmp_path: Path
) -> None:
    result = sd.inpaint(picture, "a cat", mask=mask, **SMALL | options)
    inside = np.asarray(mask) > 0
    assert result.images[0].size == SIZE and not changed(result, picture)[~inside].any()
    assert changed(result, picture)[inside].mean() > 0.5
    result.images[0].save(tmp_path / "a.png")
    assert open_image(tmp_path / "a.png") == result.images[0]


def test_growing_draws_so_much_more(sd: StableDiffusion, picture: Image.Image, mask: Image.Image) -> None:
    more = changed(sd.inpaint(picture, mask=mask, grow=3, blur=0, **SMALL), picture)
    less = changed(sd.inpaint(picture, mask=mask, grow=-3, blur=0, **SMALL), picture)
    rows, columns = more.any(1).nonzero()[0], more.any(0).nonzero()[0]
    assert (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) == (BOX[0] - 3, BOX[1] - 3, BOX[2] + 3, BOX[3] + 3)
    rows, columns = less.any(1).nonzero()[0], less.any(0).nonzero()[0]
    assert (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) == (BOX[0] + 3, BOX[1] + 3, BOX[2] - 3, BOX[3] - 3)


def test_what_is_transparent_is_drawn_if_no_mask_says_otherwise(
    sd: StableDiffusion, picture: Image.Image, mask: Image.Image
) -> None:
    clear = picture.copy()
    clear.putalpha(Image.eval(mask, lambda level: 255 - level))
    shown = sd.inpaint(picture, "a cat", mask=mask, **SMALL).images[0]
    assert sd.inpaint(picture, "a cat", mask=clear, **SMALL).images[0] == shown
    own = sd.inpaint(clear, "a cat", **SMALL)
    assert own.images[0].mode == "RGB" and not changed(own, picture)[np.asarray(mask) == 0].any()
    other_way = sd.inpaint(picture, "a cat", mask=clear, invert=True, **SMALL)
    assert not changed(other_way, picture)[np.asarray(mask) > 0].any()


def test_every_option_counts(sd: StableDiffusion, picture: Image.Image, mask: Image.Image) -> None:
    usual = {"strength": 0.75, "width": 46, "height": 34}
    drawn = {
        str(options): np.asarray(sd.inpaint(picture, "a cat", mask=mask, **SMALL | usual | options).images[0])
        for options in (
            {}, {"strength": 0.5}, {"strength": 1.0}, {"start": "original"}, {"start": "noise"}, {"start": "nothing"},
            {"blur": 1}, {"soft": True}, {"grow": 1}, {"only_masked": True, "padding": 5},
            {"only_masked": True, "padding": 1}, {"seed": 4}, {"width": 40, "height": 24}, {"invert": True},
        )
    }  # fmt: skip
    assert len({levels.tobytes() for levels in drawn.values()}) == len(drawn)


def test_a_picture_does_not_depend_on_its_neighbours(
    sd: StableDiffusion, picture: Image.Image, mask: Image.Image
) -> None:
    options = {"mask": mask, "start": "noise", "strength": 0.8, "sampler": "dpmpp_sde", "watermark": False, "steps": 4}
    many = sd.inpaint(picture, "a cat", seed=3, n=3, **options).images
    alone = sd.inpaint(picture, "a cat", seed=5, **options).images[0]
    assert np.abs(np.asarray(many[2], int) - np.asarray(alone, int)).max() <= 1


def test_strength_0_gives_what_was_there_before(sd: StableDiffusion, mask: Image.Image) -> None:
    sky = Image.new("RGB", SIZE, (90, 160, 220))
    spoilt = sky.copy()
    spoilt.paste("black", BOX)
    for start in ("fill", "original"):
        back = sfumato.load().inpaint(spoilt, mask=mask, strength=0, start=start, blur=0, watermark=False).images[0]
        colour = np.asarray(back.crop(BOX), float).mean((0, 1))
        assert (colour > 80).all() == (start == "fill"), colour


def test_a_thing_goes_into_the_hole_and_stands_on_the_ground_around_it() -> None:
    """The right half of a blue picture is masked: a heart is drawn there, and the blue goes on around it."""
    sd = sfumato.load()
    picture = Image.new("RGB", (256, 256), (36, 104, 232))
    mask = Image.new("L", picture.size)
    mask.paste(255, (128, 0, 256, 256))
    (drawn,) = sd.inpaint(picture, "a red heart", mask=mask, seed=5, watermark=False).images
    levels = np.asarray(drawn, float)
    middle, corner = levels[96:160, 160:224].mean((0, 1)), levels[:24, 224:].mean((0, 1))
    assert middle[0] > middle[2] + 30, "red"
    assert corner[2] > corner[0] + 60, "blue"
    assert np.abs(levels[:, 128] - levels[:, 127]).mean() < 25, "no seam"


def test_the_watermark_lies_inside() -> None:
    sd = sfumato.load()
    picture = Image.fromarray(np.random.default_rng(0).integers(60, 190, (6, 6, 3), np.uint8)).resize((256, 256))
    mask = Image.new("L", picture.size, 255)
    mask.paste(0, (0, 0, 16, 256))
    options = {"mask": mask, "steps": 10, "seed": 1, "sampler": "euler", "strength": 0.1, "start": "original"}
    (marked,) = sd.inpaint(picture, **options).images
    assert not changed(Result([marked], [], []), picture)[:, :16].any()
    reading = read_watermark(np.asarray(marked))
    assert reading is not None and reading.present
    plain = read_watermark(np.asarray(sd.inpaint(picture, watermark=False, **options).images[0]))
    assert plain is not None and not plain.present


def test_a_network_made_for_it_is_told_what_stays(tmp_path: Path, inpainting_model: Path) -> None:
    sd, told = sfumato.load(inpainting_model, device="cpu"), []
    sd.denoiser.network.register_forward_pre_hook(lambda network, inputs: told.append(inputs[2].concat))
    side = 4 * sd.spec.multiple
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8))
    mask = Image.new("L", (side, side))
    mask.paste(255, (0, 0, side // 2, side))
    result = sd.inpaint(picture, "a cat", mask=mask, **SMALL | {"steps": 1})
    assert told[0].shape[1] == 1 + sd.spec.vae.latent_channels
    assert told[0][0, 0].mean(0).tolist() == [1, 1, 0, 0]
    assert not changed(result, picture)[:, side // 2 :].any()


def test_the_description_says_how(sd: StableDiffusion, picture: Image.Image, mask: Image.Image) -> None:
    options = {"strength": 0.5, "start": "noise", "only_masked": True, "width": 32, "height": 32}
    (text,) = sd.inpaint(picture, "a cat", mask=mask, **SMALL, **options).infotexts
    fields = infotext.parse(text)[2]
    assert fields["Denoising strength"] == "0.5" and fields["Masked content"] == "latent noise"
    assert (fields["Mask blur"], fields["Inpaint area"], fields["Masked area padding"]) == ("4", "Only masked", "32")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask": Image.new("L", (8, 8), 255)}, "the mask is 8x8, the picture 45x33; give a mask of"),
        ({"mask": Image.new("L", SIZE)}, "the mask is empty, so there is nothing to draw; make white"),
        ({"mask": np.full((33, 45), np.nan)}, "the mask has numbers that are not finite (NaN)"),
        ({"mask": None}, "the picture has nothing transparent to be drawn; give a mask"),
        ({"strength": 1.7}, "strength is 1.7; choose a number from 0 to 1"),
        ({"start": "blank"}, "unknown start 'blank'; choose one of fill, original, noise, nothing"),
        ({"grow": 0.5}, "grow is 0.5; choose a whole number from -1024 to 1024"),
        ({"blur": -1}, "blur is -1; choose a whole number from 0 to 1024"),
        ({"padding": 10**6}, "padding is 1000000; choose a whole number from 0"),
        ({"widht": 8}, "unknown option 'widht'; did you mean width"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_at_once(
    sd: StableDiffusion, picture: Image.Image, options: dict, message: str
) -> None:
    with pytest.raises(SfumatoError) as caught:
        sd.inpaint(picture, "a cat", **{"mask": Image.new("L", SIZE, 255)} | options)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_large_pictures_are_drawn_smaller_and_come_back_large(sd: StableDiffusion) -> None:
    spec = sd.spec
    assert drawn_size(InpaintOptions(), spec, Image.new("RGB", (101, 67))) == (102, 68)
    width, height = drawn_size(InpaintOptions(), spec, Image.new("RGB", (8000, 4000)))
    assert width * height <= 4.1 * spec.defaults.width * spec.defaults.height
    assert drawn_size(InpaintOptions(only_masked=True), spec, Image.new("RGB", (99, 9))) == (512, 512)


def test_the_command(
    run: Callable, refused: Callable, model: str, picture: Image.Image, mask: Image.Image, tmp_path: Path
) -> None:
    picture.save("in.png")
    mask.save("mask.png")
    options = ("--model", model, "--steps", 2, "--seed", 5, "--out", "out.png", "--overwrite")
    done = run("inpaint", "in.png", "a cat", "--mask", "mask.png", "--strength", 0.5, "--grow", 2, *options)
    assert done.exit_code == 0, done.output
    drawn = open_image("out.png")
    different = (np.asarray(drawn) != np.asarray(picture)).any(-1)
    assert different.any() and not different[:, : BOX[0] - 2].any()
    refused(run("inpaint", "in.png", "a cat", *options), "nothing transparent to be drawn; give a mask")
    refused(run("inpaint", "in.png", "a cat", "--mask", "no.png", *options), "there is no file no.png")
    refused(run("inpaint", "in.png", "--mask", "mask.png", "--strength", 1.7, *options), "strength is 1.7")
