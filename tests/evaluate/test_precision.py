import numpy as np
import torch

from sfumato.data.emoji.dataset import EmojiData
from sfumato.evaluate.pictures import Looks, look, on_white
from sfumato.evaluate.precision import captions_of, chances, measure_precision


def test_a_judge_that_knows_finds_right_pictures_and_no_wrong_ones(squares: EmojiData, connoisseur):
    numbers = squares.splits["train"][:20]
    real = look(connoisseur, numbers, on_white(squares, numbers))
    wrong = Looks(numbers, real.vectors.roll(1, 0), real.thumbnails)
    told: list[tuple] = []
    found = measure_precision(
        squares, connoisseur, {"en": real, "th": wrong}, real, real.at(np.arange(0)), lambda *what: told.append(what)
    )
    assert found["en"].drawn.mean == found["en"].real.mean == found["th"].real.mean == 1
    assert found["th"].drawn.mean < 0.2
    assert found["en"].held_out is None
    assert told[-1] == ("captions", 2, 2)


def test_other_pictures_of_the_same_thing_are_no_rivals(squares: EmojiData, connoisseur):
    pool = np.array([i for i in squares.splits["train"] if squares.concept_index(int(i)) in (5, 6)])
    looks = look(connoisseur, pool, on_white(squares, pool))
    captions = captions_of(squares, connoisseur, pool, "en")
    assert torch.equal(chances(squares, looks, pool, captions), torch.ones(len(pool)))
