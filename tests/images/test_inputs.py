"""Pictures that users give: every kind means the same pixels, and what is no picture is refused in one line."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from sfumato.errors import SfumatoError
from sfumato.images.inputs import load_image, load_mask, load_rgba

LEVELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def kinds(tmp_path: Path) -> dict[str, object]:
    image = Image.fromarray(LEVELS)
    image.save(tmp_path / "a.png")
    floats = LEVELS / 255
    return {
        "str": str(tmp_path / "a.png"),
        "path": tmp_path / "a.png",
        "open file": Image.open(tmp_path / "a.png"),
        "pillow": image,
        "content": (tmp_path / "a.png").read_bytes(),
        "content in memory": bytearray((tmp_path / "a.png").read_bytes()),
        "BytesIO": io.BytesIO((tmp_path / "a.png").read_bytes()),
        "file of Python": (tmp_path / "a.png").open("rb"),
        "bytes": LEVELS,
        "16 bit": LEVELS.astype(np.uint16) * 257,
        "float64": floats,
        "float32 turned over": floats.astype(np.float32)[::-1][::-1],
        "tensor": torch.from_numpy(LEVELS).permute(2, 0, 1),
        "tensor of floats": torch.from_numpy(floats).permute(2, 0, 1),
    }


def test_every_kind_means_the_same_pixels(tmp_path: Path) -> None:
    for kind, value in kinds(tmp_path).items():
        image = load_image(value)
        assert image.mode == "RGB", kind
        assert np.array_equal(np.asarray(image), LEVELS), kind


@pytest.mark.parametrize("url", ["https://example.org/a.png", "HTTP://x", "data:image/png;base64,AA", "s3://b/a.png"])
def test_nothing_is_downloaded(url: str) -> None:
    with pytest.raises(SfumatoError, match="is a web address, and nothing is downloaded; save the picture first"):
        load_image(url)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"no picture", "the picture is no PNG, JPEG, WebP, GIF or BMP picture"),
        (b"", "the picture is no PNG"),
        (io.BytesIO(b"GIF89a"), "the picture"),
        (io.StringIO("a"), "the picture is StringIO; give a file, bytes"),
        ("a\0b.png", "there is no file"),
    ],
)
def test_bytes_that_are_no_picture(value: object, words: str) -> None:
    with pytest.raises(SfumatoError, match=words):
        load_image(value)


def test_bytes_are_named_as_what_they_are_for() -> None:
    with pytest.raises(SfumatoError, match="the mask is no PNG"):
        load_mask(b"x")


def test_halves_come_as_near_as_they_can() -> None:
    half = torch.from_numpy(LEVELS / 255).permute(2, 0, 1).bfloat16()
    assert np.abs(np.asarray(load_image(half), int) - LEVELS).max() <= 1


def test_grey_and_transparent_numbers() -> None:
    grey = LEVELS[:, :, 0]
    for value in (grey, grey[:, :, None], torch.from_numpy(grey), torch.from_numpy(grey)[None], grey / 255):
        assert np.array_equal(np.asarray(load_image(value)), np.repeat(grey[:, :, None], 3, 2))
    clear = np.dstack([LEVELS, np.zeros_like(grey)])
    assert np.asarray(load_image(clear)).min() == 255
    assert load_rgba(clear).mode == "RGBA" and load_rgba(LEVELS).mode == "RGB"
    opaque = np.dstack([LEVELS, np.full_like(grey, 255)])
    assert load_rgba(opaque).mode == "RGB"


def test_a_turned_picture_of_pillow_is_set_upright() -> None:
    image = Image.fromarray(LEVELS)
    image.getexif()[ExifTags.Base.Orientation] = 8
    assert np.array_equal(np.asarray(load_image(image)), np.rot90(LEVELS))


def test_masks() -> None:
    grey = LEVELS[:, :, 0]
    assert np.array_equal(np.asarray(load_mask(grey)), grey)
    assert np.array_equal(np.asarray(load_mask(grey > 99)), np.where(grey > 99, 255, 0))
    clear = load_mask(np.dstack([LEVELS, grey]))
    assert clear.mode == "L" and np.array_equal(np.asarray(clear), 255 - grey)
    white = np.full((4, 4, 4), 255, np.uint8)
    assert np.asarray(load_mask(white)).min() == 255


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "is NoneType; give a file"),
        (7, "is int; give a file"),
        ("none.png", "there is no file none.png"),
        (np.full((4, 4, 3), np.nan), "not finite (NaN); give floats"),
        (torch.full((3, 4, 4), float("inf")), "not finite (NaN); give floats"),
        (Image.new("F", (4, 4), float("nan")), "not finite (NaN); give floats"),
        (np.full((4, 4, 3), 255.0), "numbers from 255 to 255; give floats from 0 to 1, or bytes"),
        (np.full((4, 4, 3), -0.5), "numbers from -0.5 to -0.5"),
        (np.zeros((4, 4, 3), np.int64), "numbers of type int64"),
        (np.zeros((4, 4, 3), complex), "numbers of type complex128"),
        (np.zeros((3, 8, 8)), "has the shape (3, 8, 8); give numpy's (height, width, 3)"),
        (np.zeros(4), "has the shape (4,)"),
        (np.zeros((0, 4, 3)), "is 4x0 and has no pixels"),
        (np.broadcast_to(np.zeros(3, np.uint8), (10_000, 10_000, 3)), "10000x10000 pixels; the limit is 67,108,864"),
        (Image.new("1", (10_000, 10_000)), "10000x10000 pixels; the limit is 67,108,864"),
    ],
)  # fmt: skip
def test_what_is_no_picture_is_refused(value: object, message: str) -> None:
    with pytest.raises(SfumatoError) as caught:
        load_image(value, "the photo")
    assert message in str(caught.value) and "\n" not in str(caught.value)
    if not isinstance(value, str):
        assert str(caught.value).startswith("the photo ")


def test_a_damaged_file_that_pillow_has_only_begun_to_read(tmp_path: Path) -> None:
    Image.fromarray(LEVELS).resize((200, 200)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[: len(content) // 2])
    with Image.open(tmp_path / "a.png") as image, pytest.raises(SfumatoError, match=r"cannot read the picture: .*dama"):
        load_image(image)
