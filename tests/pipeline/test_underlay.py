"""Pictures that are drawn on: what stands for the part that is drawn anew."""

import pytest
import torch
from PIL import Image

from sfumato.nets.layout import Region
from sfumato.pipeline.underlay import filled_part, with_ground


def half(pixels: torch.Tensor) -> torch.Tensor:
    """A hole of the right half."""
    hole = torch.zeros(1, 1, *pixels.shape[2:], dtype=torch.bool)
    hole[..., pixels.shape[3] // 2 :] = True
    return hole


def test_a_thing_at_the_edge_of_the_hole_does_not_colour_the_ground() -> None:
    pixels = torch.full((1, 3, 32, 32), 0.9) + 0.02 * torch.randn(1, 3, 32, 32)
    pixels[:, :, 4:28, 8:] = torch.tensor([0.8, -0.9, -0.9])[:, None, None]
    filled = with_ground(pixels, half(pixels))
    assert torch.equal(filled[..., :16], pixels[..., :16])
    assert (filled[..., 16:] - 0.9).abs().max() < 0.1


def test_a_picture_without_a_plain_ground_goes_on_with_the_colours_around_the_hole() -> None:
    pixels = torch.linspace(-1, 1, 32)[None, None, :, None].expand(1, 3, 32, 32).clone()
    pixels[:, 1] = pixels[:, 1].flip(1)
    filled = with_ground(pixels, half(pixels))
    assert (filled[..., 16] - pixels[..., 15]).abs().max() < 0.25


def test_where_nothing_is_known_the_ground_is_grey() -> None:
    pixels = torch.ones(1, 3, 8, 8)
    assert not with_ground(pixels, torch.ones(1, 1, 8, 8, dtype=torch.bool)).any()


def test_the_part_that_a_picture_fills_is_the_box_of_what_is_not_its_edges():
    picture = Image.new("RGB", (100, 50), "black")
    assert filled_part(picture) == Region(0.5, 0.5, 1.0, 1.0)
    picture.paste("white", (20, 10, 60, 40))
    part = filled_part(picture)
    assert (part.x, part.y, part.width, part.height) == pytest.approx((0.4, 0.5, 0.4, 0.6))
