import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sfumato.data.emoji.dataset import EmojiData
from sfumato.evaluate.pictures import Looks, look, on_white
from sfumato.evaluate.precision import CANDIDATES, candidates, first_places, measure_precision, share


def test_first_places_are_those_of_a_plain_count():
    rng = torch.Generator().manual_seed(0)
    pictures = F.normalize(torch.randn(7, 5, generator=rng), dim=1)
    captions = F.normalize(torch.randn(4, 3, 5, generator=rng), dim=2)
    places = first_places(pictures, captions)
    assert places.shape == (4, 7)
    for m in range(4):
        for n in range(7):
            assert places[m, n] == (int(torch.argmax(captions[m] @ pictures[n])) == 0)


def test_a_tie_and_a_broken_picture_are_misses():
    captions = torch.ones(1, 3, 2)
    assert not first_places(torch.tensor([[1.0, 0.0], [torch.nan, 0.0]]), captions).any()


def test_chance_wins_one_in_k():
    rng = torch.Generator().manual_seed(0)
    pictures, captions = torch.randn(100, 16, generator=rng), torch.randn(60, 20, 16, generator=rng)
    assert share(first_places(pictures, captions)) == pytest.approx(1 / 20, abs=0.02)
    assert share(torch.empty(0, dtype=torch.bool)) is None


def test_candidates_are_others_in_a_fixed_order(squares: EmojiData):
    i = int(squares.splits["train"][7])
    places = candidates(squares, i, 0)
    assert places[0] == squares.concept_index(i)
    assert len(set(places)) == len(places) == min(CANDIDATES, len(squares.concepts))
    assert places == candidates(squares, i, 0) and places != candidates(squares, i, 1)


def test_a_judge_that_knows_finds_right_pictures_and_no_wrong_ones(squares: EmojiData, connoisseur):
    numbers = squares.splits["train"][:20]
    real = look(connoisseur, numbers, on_white(squares, numbers))
    wrong = Looks(numbers, real.vectors.roll(1, 0), real.thumbnails)
    unseen = {"unseen_concept": real, "unseen_picture": real.at(np.arange(0))}
    told: list[tuple] = []
    found = measure_precision(
        squares, connoisseur, {"en": real, "th": wrong}, real, unseen, 0, lambda *what: told.append(what)
    )
    assert (found["en"].drawn, found["en"].ratio, found["en"].ratio_english) == (1, 1, 1)
    assert (found["th"].drawn, found["th"].real, found["th"].ratio) == (0, 1, 0)
    assert found["th"].drawn_english == 0 and found["th"].shuffled > 0
    assert found["en"].shuffled == 0
    assert found["en"].unseen == {"unseen_concept": 1}
    assert told[-1] == ("captions", 2, 2)
