import pytest
import torch

from sfumato.data.emoji.captions import COLOURS
from sfumato.data.emoji.dataset import EmojiData
from sfumato.evaluate.backgrounds import ground, name_of
from sfumato.images.tensors import compose


@pytest.mark.parametrize("place", range(len(COLOURS)))
def test_every_colour_is_known_by_its_corners_and_what_lies_between(place: int):
    colour = COLOURS[place]
    ends = torch.tensor([colour.low, colour.high]).float()
    assert name_of(torch.cat([ends, ends.mean(0, keepdim=True)])).tolist() == [place] * 3


def test_the_ground_is_seen_around_a_picture_and_under_noise(squares: EmojiData):
    x = compose(squares.pictures(squares.splits["train"][:3]), COLOURS[4].low)
    assert torch.allclose(ground(x), torch.tensor(COLOURS[4].low).float().expand(3, 3), atol=1e-3)
    noisy = x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    assert name_of(ground(noisy)).tolist() == [4] * 3
