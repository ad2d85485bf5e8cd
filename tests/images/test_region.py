"""The part of a picture that is drawn: cut, drawn at another size and put back without a shift."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sfumato.images.region import Region

sides = st.integers(1, 70)


def picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def test_a_whole_picture_is_filled_up_and_not_scaled() -> None:
    image = picture(30, 17)
    region = Region.whole(image.size, (32, 24), 8)
    drawn = region.cut(image)
    assert drawn.size == (32, 24)
    assert np.array_equal(np.asarray(drawn)[:17, :30], np.asarray(image))
    assert (np.asarray(drawn)[17:, :30] == np.asarray(image)[-1]).all()
    assert region.put(drawn, Image.new("RGB", image.size)) == image


def test_a_whole_picture_drawn_at_another_size_keeps_its_shape() -> None:
    region = Region.whole((100, 50), (64, 64), 8)
    left, top, right, bottom = region.box
    assert right - left == bottom - top == 100 and (left, top) == (0, -25)


@given(width=sides, height=sides, x=sides, y=sides, padding=st.integers(0, 9), shape=st.tuples(sides, sides))
def test_what_is_masked_lies_in_the_box(
    width: int, height: int, x: int, y: int, padding: int, shape: tuple[int, int]
) -> None:
    mask = torch.zeros(1, 1, height, width)
    mask[..., y % height :, x % width] = 1
    region = Region.around(mask, padding, shape)
    left, top, right, bottom = region.box
    assert left <= max(0, x % width - padding) and right >= min(width, x % width + 1 + padding)
    assert top <= max(0, y % height - padding) and bottom >= height
    assert (right - left) / (bottom - top) == pytest.approx(
        shape[0] / shape[1], rel=1 / min(right - left, bottom - top)
    )
    assert (left >= 0 and right <= width) or right - left > width
    assert region.cut(picture(width, height)).size == shape
    assert region.cut_mask(mask).shape == (1, 1, bottom - top, right - left)
    assert region.cut_mask(mask).any()


def test_a_box_goes_back_where_it_was_cut() -> None:
    smooth = Image.linear_gradient("L").resize((90, 60)).convert("RGB")
    mask = torch.zeros(1, 1, 60, 90)
    mask[..., 20:30, 70:88] = 1
    region = Region.around(mask, 5, (64, 64))
    left, top, right, bottom = region.box
    back = np.asarray(region.put(region.cut(smooth), Image.new("RGB", (90, 60))), int)
    assert np.abs(back[top:bottom, left:right] - np.asarray(smooth, int)[top:bottom, left:right]).max() <= 4
    assert not back[:, :left].any()
