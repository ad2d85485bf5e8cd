import pytest
import torch
from torch import Tensor

from sfumato.evaluate.objects import Found, connected, cut_out, find_objects, ground

BLUE = torch.tensor([-1.0, -1.0, 1.0])


def picture(*boxes: tuple[int, int, int, int], size: int = 128) -> Tensor:
    """White boxes (left, top, right, bottom) on blue, (3, size, size)."""
    x = BLUE[:, None, None].repeat(1, size, size)
    for left, top, right, bottom in boxes:
        x[:, top:bottom, left:right] = 1
    return x


@pytest.mark.parametrize("size", [32, 128, 256])
def test_things_apart_are_found_with_their_boxes_the_largest_first(size: int):
    unit = size // 32
    boxes = [tuple(unit * side for side in box) for box in ((2, 3, 8, 9), (20, 4, 30, 14), (5, 20, 12, 28))]
    (found,) = find_objects(picture(*boxes, size=size)[None])
    assert [thing.box for thing in found] == [boxes[1], boxes[2], boxes[0]]
    assert found[0].centre == (25 * unit, 9 * unit)
    assert found[0].mask.sum() == 100 * unit**2


def test_specks_noise_and_plain_pictures_hold_nothing():
    noise = 0.08 * torch.randn(3, 128, 128, generator=torch.Generator().manual_seed(0))
    assert find_objects(torch.stack([picture((5, 5, 10, 10)), picture() + noise, picture()])) == [[], [], []]


def test_a_crack_does_not_part_what_a_gap_does():
    near, far = picture((20, 20, 40, 60), (41, 20, 60, 60)), picture((20, 20, 40, 60), (44, 20, 60, 60))
    one, two = find_objects(torch.stack([near, far]))
    assert [thing.box for thing in one] == [(20, 20, 60, 60)]
    assert [thing.box for thing in two] == [(20, 20, 40, 60), (44, 20, 60, 60)]


def test_connected_parts_of_every_form():
    rows = ["#.#.####", "#.#.#..#", "#.#.#.#.", "###.#..#", "....####", "##......", "..##...#"]
    mask = torch.tensor([[cell == "#" for cell in row] for row in rows])
    labels = connected(torch.stack([mask, ~mask]))
    assert torch.equal(labels > 0, torch.stack([mask, ~mask]))
    assert labels[0].unique().numel() - 1 == 4
    assert labels[0, 0, 0] == labels[0, 0, 2] and labels[0, 5, 0] == labels[0, 6, 3] != labels[0, 0, 0]


def test_a_spiral_is_one():
    mask = torch.zeros(64, 64, dtype=torch.bool)
    for k in range(0, 28, 4):  # corridors that wind inwards
        mask[k, max(0, k - 4) : 64 - k] = mask[k : 64 - k, 63 - k] = mask[63 - k, k : 64 - k] = True
        mask[k + 4 : 64 - k, k] = True
    assert connected(mask[None]).unique().numel() == 2


def test_a_cut_out_fills_its_square_and_neighbours_are_gone():
    x = picture((20, 20, 40, 60), (70, 20, 110, 60))
    x[0, 20:60, 20:40] = -1
    found = Found.of((x[0] == -1) & (x[1] == 1))
    alone = cut_out(x, found, 64)
    inside = (alone[0] < 0).nonzero()
    assert alone.shape == (3, 64, 64)
    assert (alone[:, :, :16] == 1).all() and (alone[:, :, -16:] == 1).all()
    assert 1 <= inside[:, 0].min() <= 4 and 59 <= inside[:, 0].max() <= 62


def test_the_ground_is_seen_around_a_picture_and_under_noise():
    x = torch.full((2, 3, 32, 32), 0.5)
    x[:, :, 6:-6, 6:-6] = -1
    noisy = x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ground(x), torch.full((2, 3), 191.25))
    torch.testing.assert_close(ground(noisy), torch.full((2, 3), 191.25), atol=5, rtol=0)
