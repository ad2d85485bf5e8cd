"""Pictures drawn on: in pieces of any size, without a seam, and what was there stays."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import sfumato
from sfumato.api import StableDiffusion
from sfumato.errors import SfumatoError
from sfumato.images.files import open_image
from sfumato.provenance import infotext
from sfumato.tasks.outpaint import OutpaintMargins

SMALL = {"steps": 2, "seed": 3, "width": 32, "height": 24, "sampler": "euler"}
SIZE = (21, 17)
pixels = st.integers(0, 200)


@pytest.fixture
def sd(model: str) -> StableDiffusion:
    return sfumato.load(model)


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)).resize(SIZE)


@given(left=pixels, right=pixels, top=pixels, bottom=pixels, width=st.integers(1, 90), height=st.integers(1, 90))
def test_pieces_add_up(left: int, right: int, top: int, bottom: int, width: int, height: int) -> None:
    if left + right + top + bottom == 0:
        return
    pieces = OutpaintMargins(left, right, top, bottom).pieces(width, height)
    assert [sum(getattr(piece, side) for piece in pieces) for side in ("left", "right", "top", "bottom")] == [
        left, right, top, bottom,
    ]  # fmt: skip
    for piece in pieces:
        (added,) = (amount for amount in vars(piece).values() if amount)
        assert added <= (width if piece.left or piece.right else height)


@pytest.mark.parametrize("watermark", [False, True])
@pytest.mark.parametrize(
    "sides", [{"left": 11}, {"right": 3, "bottom": 5}, {"left": 25, "right": 7, "top": 19}], ids=str
)
def test_a_picture_grows_and_what_was_there_stays(
    sd: StableDiffusion, picture: Image.Image, sides: dict[str, int], watermark: bool
) -> None:
    (drawn,) = sd.outpaint(picture, "a cat", overlap=4, watermark=watermark, **sides, **SMALL).images
    left, right, top, bottom = (sides.get(side, 0) for side in ("left", "right", "top", "bottom"))
    assert drawn.size == (SIZE[0] + left + right, SIZE[1] + top + bottom)
    inner = (4 * bool(left), 4 * bool(top), SIZE[0] - 4 * bool(right), SIZE[1] - 4 * bool(bottom))
    moved = (inner[0] + left, inner[1] + top, inner[2] + left, inner[3] + top)
    assert drawn.crop(moved) == picture.crop(inner)
    edge = np.asarray(drawn)[:, 0] if left else np.asarray(drawn)[:, -1]
    assert edge.std() > 1  # something was drawn


def test_no_seam_is_left() -> None:
    """The picture changes across the old edge, and where the overlap begins, no more than it does elsewhere."""
    sd = sfumato.load()
    half = sd.txt2img("a red heart", seed=3, watermark=False).images[0].crop((0, 0, 70, 128))
    (drawn,) = sd.outpaint(half, "a red heart", right=58, overlap=16, seed=7, watermark=False).images
    steps = np.abs(np.diff(np.asarray(drawn, float), axis=1)).mean((0, 2))
    elsewhere = np.delete(steps[16:112], [69 - 16, 53 - 16])
    assert max(steps[69], steps[53]) < elsewhere.max()


def test_pictures_of_a_batch_are_those_drawn_alone(sd: StableDiffusion, picture: Image.Image) -> None:
    many = sd.outpaint(picture, "a cat", right=30, n=2, **SMALL)
    alone = sd.outpaint(picture, "a cat", right=30, **SMALL | {"seed": 4})
    assert many.seeds == [3, 4] and many.images[1] == alone.images[0]
    assert many.images[0] != many.images[1]
    prompt, _, fields = infotext.parse(alone.infotexts[0])
    assert (prompt, fields["Size"], fields["Outpaint right"], fields["Seed"]) == ("a cat", "51x17", "30", "4")


def test_steps_and_overlap_count(sd: StableDiffusion, picture: Image.Image) -> None:
    drawn = [
        sd.outpaint(picture, "a cat", right=30, **options, **SMALL).images[0].tobytes()
        for options in ({}, {"step": 0.25}, {"overlap": 0}, {"overlap": 8})
    ]
    assert len(set(drawn)) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "nothing is to be added; say how many pixels"),
        ({"left": -1}, "left is -1; choose a whole number from 0 to 8192"),
        ({"top": 0.5}, "top is 0.5; choose a whole number"),
        ({"left": 8, "step": 0}, "step is 0; choose a number from 0.05 to 0.9"),
        ({"left": 8, "overlap": 99}, "overlap is 99; choose a whole number from 0 to 12"),
        ({"left": 8192, "right": 8192, "top": 8192}, "the picture to be drawn has 16405x8209 pixels; the limit is"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_at_once(
    sd: StableDiffusion, picture: Image.Image, options: dict, message: str
) -> None:
    with pytest.raises(SfumatoError) as caught:
        sd.outpaint(picture, "a cat", **options, **SMALL)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_the_command(run: Callable, refused: Callable, model: str, picture: Image.Image) -> None:
    picture.save("in.png")
    options = ("--model", model, "--steps", 2, "--size", "32x24", "--out", "out.png", "--overwrite")
    done = run("outpaint", "in.png", "a cat", "--left", 8, "--bottom", 3, "--overlap", 2, *options)
    assert done.exit_code == 0, done.output
    assert open_image("out.png").size == (29, 20)
    refused(run("outpaint", "in.png", "a cat", *options), "nothing is to be added")
    refused(run("outpaint", "no.png", "a cat", "--left", 8, *options), "there is no file no.png")
