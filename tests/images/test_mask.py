"""Masks: from pictures of white and black to what may change, and what surroundings look like."""

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.errors import SfumatoError
from sfumato.images.mask import bounds, edge, filled, from_picture, grown, touched


def dot(side: int = 31) -> torch.Tensor:
    mask = torch.zeros(1, 1, side, side)
    mask[..., side // 2, side // 2] = 1
    return mask


def test_white_is_drawn_or_black_if_inverted() -> None:
    grey = Image.fromarray(np.array([[0, 12, 128, 243, 255]], np.uint8))
    mask = from_picture(grey, 5, 1)
    assert mask.flatten().tolist() == pytest.approx([0, 0, 0.502, 1, 1], abs=1e-3)
    assert torch.equal(from_picture(grey, 5, 1, invert=True), 1 - mask)


def test_growth_is_nearly_round() -> None:
    y, x = torch.meshgrid(*[torch.arange(31.0) - 15] * 2, indexing="ij")
    distance = torch.hypot(x, y)[None, None]
    for pixels in (1, 3, 8, 12):
        mask = grown(dot(), pixels) > 0
        assert (distance[mask].max() <= 1.15 * pixels) and (distance[~mask].min() >= 0.9 * pixels), pixels


def test_shrinking_takes_back_what_growing_added() -> None:
    mask = torch.zeros(1, 1, 40, 40)
    mask[..., 10:30, 5:25] = 1
    assert torch.equal(grown(grown(mask, 4), -4), mask)
    assert not grown(mask, -10).any()
    assert torch.equal(grown(mask, 0), mask)


def test_a_soft_edge_lies_inside() -> None:
    mask = torch.zeros(1, 1, 8, 20)
    mask[..., 6:] = 1
    assert edge(mask, 3)[0, 0, 4].tolist() == [0] * 6 + [0.25, 0.5, 0.75] + [1] * 11
    assert torch.equal(edge(mask, 0), mask)
    assert torch.equal(edge(torch.ones(1, 1, 8, 8), 5), torch.ones(1, 1, 8, 8))


def test_cells_and_boxes_that_are_touched() -> None:
    mask = dot(32)
    mask[..., 3, 20] = 0.1
    assert bounds(mask) == (16, 3, 21, 17)
    assert touched(mask, 4, 4).nonzero()[:, 2:].tolist() == [[0, 2], [2, 2]]
    assert touched(mask, 64, 64).sum() == 8  # a larger raster than the mask's own


def test_holes_are_filled_from_around_them() -> None:
    ramp = torch.linspace(-1, 1, 61)[None, None, None].expand(1, 3, 47, 61)
    hole = torch.zeros(1, 1, 47, 61, dtype=torch.bool)
    hole[..., 8:40, 20:45] = True
    smooth = filled(ramp, hole)
    assert (smooth - ramp).abs().max() < 0.1
    assert torch.equal(smooth[..., :20], ramp[..., :20])
    hidden = ramp.where(~hole, 9.0)
    assert torch.equal(filled(hidden, hole), smooth)  # whatever is in it does not matter
    assert not filled(ramp, torch.ones_like(hole)).any()
    assert torch.equal(filled(ramp, torch.zeros_like(hole)), ramp)


@pytest.mark.parametrize(
    ("mask", "options", "message"),
    [
        (Image.new("L", (8, 9), 255), {}, "the mask is 8x9, the picture 8x8; give a mask of the picture's size"),
        (Image.new("L", (8, 8)), {}, "the mask is empty, so there is nothing to draw; make white"),
        (Image.new("L", (8, 8), 255), {"invert": True}, "the mask is empty"),
        (Image.fromarray(np.eye(8, dtype=np.uint8) * 255), {"grow": -1}, "the mask is empty, .*; shrink it less"),
    ],
)  # fmt: skip
def test_masks_that_say_nothing(mask: Image.Image, options: dict, message: str) -> None:
    with pytest.raises(SfumatoError, match=message):
        from_picture(mask, 8, 8, **options)
