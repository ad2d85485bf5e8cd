from sfumato.evaluate.emoji.attributes import WHOLE, Answer
from sfumato.evaluate.emoji.scores import Examined, matrix, score_attributes


def position(asked: str, seen: str) -> Answer:
    return Answer("position", asked, seen)


DRAWN = [
    Examined("en", [position("left", "left"), Answer(WHOLE, "yes", "yes")]),
    Examined("en", [position("left", "right"), Answer(WHOLE, "yes", "no")]),
    Examined("th", [position("right", "right"), Answer(WHOLE, "yes", "yes")]),
    Examined("th", [Answer("count", "many", "4"), Answer("count", "3", "3"), Answer(WHOLE, "yes", "no")]),
]
REAL = [[position("left", "left")], [position("left", "nothing")]]


def test_shares_by_position_and_language():
    found = score_attributes(DRAWN, REAL).scores
    left, right = found["left"], found["right"]
    assert (left.drawn.n, left.drawn.mean, left.real.mean) == (2, 0.5, 0.5)
    assert {name: share.mean for name, share in left.languages.items()} == {"en": 0.5}
    assert right.drawn.mean == 1 and right.real is None
    assert found[WHOLE].drawn.mean == 0.5
    assert (found["many"].drawn.mean, found["count"].drawn.mean) == (0, 1)


def test_confusion_counts_what_was_taken_for_what():
    assert matrix([answer for one in DRAWN for answer in one.answers], "position") == {
        "left": {"left": 1, "right": 1},
        "right": {"right": 1},
    }
    assert score_attributes(DRAWN, REAL).confusion["position"]["real"] == {"left": {"left": 1, "nothing": 1}}
