from itertools import pairwise
from random import Random

import pytest

from sfumato.nets.layout import MAX_THINGS, Group, Region, Spot, filling, spots

TWO = [Group(), Group()]


def several(count: int = 60, **kwargs) -> list[list[Spot]]:
    arguments = {"arrangement": "one", "place": None, "groups": [Group()]} | kwargs
    return [spots(rng=Random(seed), **arguments) for seed in range(count)]


def test_the_same_chance_gives_the_same_spots_and_another_one_others():
    assert (
        spots("left", None, TWO, Random(1))
        == spots("left", None, TWO, Random(1))
        != spots("left", None, TWO, Random(2))
    )


def test_things_lie_where_words_say():
    for first, second in several(arrangement="left", groups=TWO):
        assert first.x < second.x - 0.3
    for first, second in several(arrangement="above", groups=TWO):
        assert first.y < second.y - 0.3
    for first, second in several(arrangement="front", groups=TWO):
        assert (first.order, second.order) == (1, 0)
    for row in several(arrangement="row", groups=[Group()] * 3):
        assert all(left.x < right.x for left, right in pairwise(row))
    places = {"left": (0.25, 0.5), "right": (0.75, 0.5), "top": (0.5, 0.25), "bottom": (0.5, 0.75)}
    for place, (x, y) in places.items():
        for (spot,) in several(place=place):
            assert abs(spot.x - x) < 0.1 and abs(spot.y - y) < 0.1 and spot.side < 0.6


@pytest.mark.parametrize("count", range(1, MAX_THINGS + 1))
def test_equal_things_do_not_cover_each_other(count: int):
    for found in several(groups=[Group(count)]):
        assert len(found) == count and {spot.group for spot in found} == {0}
        for k, a in enumerate(found):
            assert a.side / 2 - 1e-9 <= a.x <= 1 - a.side / 2 + 1e-9
            assert all(max(abs(a.x - b.x), abs(a.y - b.y)) > a.side + 0.04 for b in found[:k])


def test_neighbours_lie_apart():
    two, three = [Group(3), Group(2, "big")], [Group(), Group(2), Group(size="big")]
    for arrangement, groups in (("left", two), ("above", two), ("row", three)):
        for found in several(arrangement=arrangement, groups=groups):
            for k, a in enumerate(found):
                assert all(max(abs(a.x - b.x), abs(a.y - b.y)) > (a.side + b.side) / 2 + 0.04 for b in found[:k])


def test_sizes_and_poses():
    usual, small, big = (several(groups=[Group(size=size)]) for size in (None, "small", "big"))
    assert max(s[0].side for s in small) < min(s[0].side for s in usual) and min(s[0].side for s in big) > 0.92
    for (tilted,) in several(groups=[Group(pose="tilted")]):
        assert 10 < abs(tilted.angle) < 40
    assert {s[0].mirrored for s in several(groups=[Group(pose="mirrored")])} == {True}
    assert {s[0].angle for s in several(groups=[Group(pose="upside_down")])} == {180}
    for one, two in several(arrangement="left", groups=[Group(size="big"), Group(size="small")]):
        assert one.side > 1.5 * two.side


@pytest.mark.parametrize(
    ("arrangement", "groups"), [("one", TWO), ("left", [Group()]), ("row", [Group(4), Group(3)]), ("above", [])]
)
def test_what_cannot_be_laid_out_is_refused(arrangement: str, groups: list[Group]):
    with pytest.raises(ValueError, match="group"):
        spots(arrangement, None, groups, Random(0))


def test_spots_fill_a_part_of_the_picture_together():
    (alone,) = filling([Spot(0.5, 0.5, 0.9)], Region(0.3, 0.6, 0.4, 0.2))
    assert (alone.x, alone.y, alone.side) == pytest.approx((0.3, 0.6, 0.4))
    first, second = filling([Spot(0.2, 0.5, 0.4), Spot(0.8, 0.5, 0.4)], Region(0.5, 0.5, 0.5, 0.2))
    assert (first.x - first.side / 2, second.x + second.side / 2) == pytest.approx((0.25, 0.75))
    assert first.y == second.y == 0.5
