"""Hints that are made of pictures: edges as OpenCV finds them, and what the others keep and lose."""

import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw

from sfumato.images.control import PICTURE_HINTS
from sfumato.images.control.canny import canny
from sfumato.images.control.lines import normals
from sfumato.settings.control import HINTS

# Of cv2.Canny (OpenCV 5.0.0) on the pictures below: how many places are edges, and the CRC-32 of its bytes.
OPENCV = {
    ("rings", 100, 200): (761, 0xB06F36C1),
    ("rings", 50, 60): (804, 0x4EAF70D6),
    ("rings", 300, 700): (38, 0x9238F4F0),
    ("steps", 100, 200): (1227, 0x79D1FCB9),
    ("steps", 50, 60): (1263, 0xD7936A59),
    ("steps", 300, 700): (366, 0x6E1AFF41),
    ("noise", 100, 200): (1778, 0xBA837FF4),
    ("noise", 50, 60): (1778, 0xBA837FF4),
    ("noise", 300, 700): (1734, 0x8809D600),
    ("soft", 100, 200): (1210, 0xE0F05DD0),
    ("soft", 50, 60): (1239, 0x8DD043D1),
    ("soft", 300, 700): (639, 0x0B333949),
}


def pictures() -> dict[str, np.ndarray]:
    y, x = np.mgrid[:60, :80]
    rings = (127.5 + 127.5 * np.sin(np.hypot(x - 33, y - 21) ** 1.5 / 20)).astype(np.uint8)
    steps = ((x // 7 * 37 + y // 5 * 91) % 256).astype(np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    soft = np.stack([rings, steps, (x * 3 + y).astype(np.uint8)], 2)
    return {"rings": np.stack([rings] * 3, 2), "steps": np.stack([steps] * 3, 2), "noise": noise, "soft": soft}


@pytest.mark.parametrize(("name", "low", "high"), OPENCV)
def test_canny_is_opencvs(name: str, low: int, high: int) -> None:
    made = np.asarray(canny(Image.fromarray(pictures()[name]), low, high))
    assert (made[..., :1] == made).all() and set(np.unique(made)) <= {0, 255}
    edges = np.ascontiguousarray(made[..., 0])
    assert (int((edges > 0).sum()), zlib.crc32(edges.tobytes())) == OPENCV[name, low, high]


def ink() -> Image.Image:
    """A black ring on white."""
    image = Image.new("RGB", (96, 64), "white")
    ImageDraw.Draw(image).ellipse((20, 8, 70, 56), outline="black", width=3)
    return image


@pytest.mark.parametrize("kind", PICTURE_HINTS)
def test_every_hint_has_the_size_of_its_picture_and_is_the_same_each_time(kind: str) -> None:
    made = PICTURE_HINTS[kind](ink())
    assert made.mode == "RGB" and made.size == (96, 64) and made == PICTURE_HINTS[kind](ink())
    flat = PICTURE_HINTS[kind](Image.new("RGB", (96, 64), (9, 90, 200)))
    assert flat.size == (96, 64)
    if kind in ("canny", "gradient", "scribble", "lineart"):
        assert not np.asarray(flat).any(), "a plain picture has no lines"


def test_hints_are_those_that_options_name() -> None:
    assert {*PICTURE_HINTS, "depth", "normal", "inpaint"} == set(HINTS)


@pytest.mark.parametrize("kind", ["canny", "gradient", "scribble", "lineart"])
def test_lines_are_where_the_ink_is(kind: str) -> None:
    made = np.asarray(PICTURE_HINTS[kind](ink()))[..., 0] > 100
    dark = np.asarray(ink())[..., 0] < 128
    near = np.asarray(Image.fromarray(dark.astype(np.uint8) * 255).resize((96, 64))) > 0
    for _ in range(7):
        near = near | np.roll(near, 1, 0) | np.roll(near, -1, 0) | np.roll(near, 1, 1) | np.roll(near, -1, 1)
    assert made.sum() > 100 and not (made & ~near).any()


def test_colours_stay_and_forms_go() -> None:
    image = Image.fromarray(pictures()["soft"]).resize((160, 120))
    grid = np.asarray(PICTURE_HINTS["colour"](image))
    assert len(np.unique(grid.reshape(-1, 3), axis=0)) == 4
    assert np.abs(grid.mean((0, 1)) - np.asarray(image).mean((0, 1))).max() < 15
    mixed = np.asarray(PICTURE_HINTS["shuffle"](image)).reshape(-1, 3)
    colours = {tuple(one) for one in np.asarray(image).reshape(-1, 3)}
    assert {tuple(one) for one in mixed} <= colours and not np.array_equal(mixed, np.asarray(image).reshape(-1, 3))


def test_normals_point_away_from_what_is_near() -> None:
    y, x = np.mgrid[:65, :65] - 32.0
    bump = np.clip(1 - np.hypot(x, y) / 32, 0, 1)
    made = np.asarray(normals(bump)).astype(int) - 128
    assert made[32, 16, 0] > 20 and made[32, 48, 0] < -20, "red grows with nearness to the right"
    assert made[16, 32, 1] > 20 and made[48, 32, 1] < -20
    assert np.abs(made[0, 0] - (0, 0, 127)).max() <= 1
