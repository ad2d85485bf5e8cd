import numpy as np
import pytest
import torch

from sfumato.data.emoji.dataset import EmojiData
from sfumato.evaluate.originality import measure_originality, nearest, to_known
from sfumato.evaluate.pictures import Looks, look, on_white


@pytest.fixture
def known(squares: EmojiData, connoisseur) -> Looks:
    numbers = squares.splits["train"]
    return look(connoisseur, numbers, on_white(squares, numbers))


def test_nearest_is_exact():
    references = torch.tensor([[0.0, 0.0], [1e4, 1e4]])
    queries = torch.tensor([[3.0, 4.0], [1e4, 1e4]])
    distances, places = nearest(queries, references)
    assert distances.tolist() == [5, 0] and places.tolist() == [0, 1]


def test_units(squares: EmojiData):
    """Black against white is 1 apart in pixels; opposite vectors are 2 apart for the judge."""
    number = squares.splits["train"][:1]
    one = Looks(number, torch.tensor([[1.0, 0.0]]), torch.full((1, 12), -1.0))
    other = Looks(number, torch.tensor([[-1.0, 0.0]]), torch.full((1, 12), 1.0))
    pixels, judge, numbers = to_known(squares, one, other)
    assert (pixels.item(), judge.item(), numbers.item()) == (1, 2, number)


def test_only_pictures_of_the_same_style_count(squares: EmojiData, known: Looks):
    of_style = np.array([squares.style(int(i)) == "3d" for i in known.numbers])
    pixels, judge, numbers = to_known(squares, known, known.at(of_style))
    assert torch.equal(torch.isfinite(pixels), torch.from_numpy(of_style))
    assert pixels[torch.from_numpy(of_style)].max() == 0
    assert torch.equal(torch.isfinite(judge), torch.from_numpy(of_style))
    assert np.array_equal(numbers.numpy(), np.where(of_style, known.numbers, -1))


def test_memory_is_told_from_invention(squares: EmojiData, known: Looks):
    blurred = Looks(known.numbers, known.vectors, 0.98 * known.thumbnails)
    other = Looks(known.numbers, -known.vectors, -known.thumbnails)
    found = measure_originality(
        squares, known, blurred, {"drawn": known, "held out": other, "none": known.at(np.arange(0))}
    )
    assert list(found.distances) == ["drawn", "held out", "copies"]
    drawn, held_out, copies = found.distances.values()
    assert (drawn.pixels, drawn.pixels_near, drawn.judge_near) == (0, 1, 1)
    assert held_out.pixels_near == 0 and held_out.pixels > 0.1
    assert copies.pixels == pytest.approx(0.01, rel=0.2) and copies.pixels_near >= 0.95
    assert found.pixels_threshold == pytest.approx(0.01, rel=0.2)
