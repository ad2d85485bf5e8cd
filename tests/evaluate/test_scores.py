import pytest

from sfumato.evaluate.attributes import WHOLE, Answer
from sfumato.evaluate.scores import Examined, matrix, score_attributes


def position(asked: str, seen: str) -> Answer:
    return Answer("position", asked, seen)


DRAWN = [
    Examined("en", 0, [position("left", "left"), Answer(WHOLE, "yes", "yes")]),
    Examined("en", 1, [position("left", "right"), Answer(WHOLE, "yes", "no")]),
    Examined("th", 0, [position("right", "right"), Answer(WHOLE, "yes", "yes")]),
    Examined("th", 1, [position("right", "right"), Answer(WHOLE, "yes", "no")]),
]
REAL = [[position("left", "left")], [position("left", "nothing")]]


def test_shares_by_position_language_and_seed():
    found = score_attributes(DRAWN, REAL, 2)
    assert (found.scenes, found.real_scenes) == (2, 2)
    left, right = found.scores["left"], found.scores["right"]
    assert (left.asked, left.drawn, left.real, left.languages) == (2, 0.5, 0.5, {"en": 0.5})
    assert (right.drawn, right.real, right.spread) == (1, None, 0)
    assert left.spread == pytest.approx(0.5**0.5)
    assert found.scores[WHOLE].drawn == 0.5


def test_chance_is_how_often_an_answer_is_given_at_all():
    found = score_attributes(DRAWN, REAL, 2)
    assert (found.scores["left"].chance, found.scores["right"].chance) == (0.25, 0.75)
    assert found.scores[WHOLE].chance is None


def test_one_seed_has_no_spread():
    assert score_attributes(DRAWN[::2], REAL, 2).scores["left"].spread is None


def test_confusion_counts_what_was_taken_for_what():
    assert matrix([answer for one in DRAWN for answer in one.answers], "position") == {
        "left": {"left": 1, "right": 1},
        "right": {"right": 2},
    }
    assert score_attributes(DRAWN, REAL, 2).confusion["position"]["real"] == {"left": {"left": 1, "nothing": 1}}
