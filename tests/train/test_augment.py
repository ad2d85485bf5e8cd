"""Changes of pictures: what they may do, and what they must leave."""

import torch

from sfumato.train.augment import Augment, jpeg, placed, recoloured, worn

NONE = Augment(
    scale=(1, 1), shift=0, turn=0, mirror=0, hue=0, grey=0, light=0, blur=0, noise=0, jpeg=0, erase=0
)  # fmt: skip
YES, NO = torch.ones(4, dtype=torch.bool), torch.zeros(4, dtype=torch.bool)


def pictures(side: int = 16) -> torch.Tensor:
    """Premultiplied RGBA with a red mark in the upper left."""
    rgba = torch.zeros(4, 4, side, side)
    rgba[:, 0, 2:6, 2:6] = 0.9
    rgba[:, 3, 2:6, 2:6] = 1
    return rgba


def test_nothing_is_changed_where_nothing_is_asked_for():
    x = pictures()
    torch.testing.assert_close(placed(x, NONE, 16, YES, NO), x)
    torch.testing.assert_close(recoloured(x, NONE, YES), x, atol=1e-5, rtol=0)
    rgb = torch.rand(4, 3, 16, 16)
    torch.testing.assert_close(worn(rgb.clone(), NONE), rgb)


def test_what_is_not_movable_keeps_its_sides():
    flipping = Augment(scale=(1, 1), shift=0, turn=0, mirror=1)
    torch.testing.assert_close(placed(pictures(), flipping, 16, NO, NO), pictures())
    torch.testing.assert_close(placed(pictures(), flipping, 16, YES, NO), pictures().flip(3))


def test_what_is_whole_stays_in_the_frame():
    torch.manual_seed(0)
    full = torch.ones(4, 4, 16, 16)
    assert placed(full, Augment(turn=0), 16, NO, YES).min() > 0.99
    assert placed(full, Augment(scale=(0.5, 0.5), turn=0, shift=0), 16, NO, NO).mean() < 0.3


def test_hue_turns_only_where_it_may_and_light_stays():
    torch.manual_seed(0)
    x, weights = pictures(), torch.tensor([0.299, 0.587, 0.114])
    turned = recoloured(x * 0.5 + 0.1 * x[:, 3:], Augment(hue=1, grey=0), YES)
    assert (turned[:, 1] - turned[:, 2]).abs().max() > 0.05
    assert torch.equal(turned[:, 3], 0.6 * x[:, 3])
    kept = recoloured(x, Augment(hue=1, grey=1), NO)
    torch.testing.assert_close(kept, x, atol=1e-5, rtol=0)
    grey = recoloured(x, Augment(hue=0, grey=1), YES)[:, :3, 3, 3]
    torch.testing.assert_close(grey, (0.9 * weights[0]).expand(4, 3), atol=2e-3, rtol=0)


def test_jpeg_is_the_cosine_transform_in_blocks():
    x = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.testing.assert_close(jpeg(x, torch.full((2,), 1e-5)), x, atol=1e-3, rtol=0)
    coarse = jpeg(x, torch.full((2,), 50.0))
    assert coarse.std() < 0.01 * x.std()  # every wave is rounded away


def test_wear_stays_in_range_and_differs_by_picture():
    torch.manual_seed(1)
    x = torch.rand(1, 3, 16, 16).expand(32, -1, -1, -1) * 2 - 1
    found = worn(x.clone(), Augment())
    assert found.abs().max() <= 1 and len({float(one.sum()) for one in found}) > 16
