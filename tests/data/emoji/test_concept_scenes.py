from random import Random

import pytest
import torch

from sfumato.data.emoji.concept_scenes import KINDS, ConceptScenes, invent_request
from sfumato.data.emoji.noun_scenes import NounScenes
from sfumato.errors import SfumatoError
from sfumato.nets.layout import MAX_THINGS


@pytest.mark.parametrize("kind", [ConceptScenes, NounScenes])
def test_scenes_are_functions_of_seed_and_number_and_agree_with_their_masks(shapes, kind):
    scenes, again = kind(shapes, 3), kind(shapes, 3)
    for number in (5, 2, 9, 0):
        assert scenes[number] == again[number]
        drawn = scenes.draw(scenes[number])
        assert torch.equal(drawn.picture, again.draw(again[number]).picture)
        assert drawn.picture.abs().max() <= 1 and drawn.masks.sum(0).max() <= 1, "a pixel shows one thing"
        assert torch.equal(drawn.depth > 0, drawn.masks.any(0))
    assert [scenes[n] for n in range(8)] != [kind(shapes, 4)[n] for n in range(8)]


def test_a_request_and_its_picture_say_the_same(shapes):
    scenes, kinds = ConceptScenes(shapes), set()
    for number in range(300):
        scene = scenes[number]
        asked, objects = scene.asked, scene.objects
        kinds.add("count" if asked.arrangement == "one" and len(objects) > 1 else asked.arrangement)
        assert [sum(o.group == k for o in objects) for k in range(len(asked.things))] == [t.count for t in asked.things]
        assert len(objects) <= MAX_THINGS and {shapes.split(o.picture) for o in objects} == {"train"}
        for placed in objects:
            thing = asked.things[placed.group]
            assert shapes.concept(placed.picture) == thing.concept and placed.colour == thing.colour
            assert shapes.style(placed.picture) == asked.style == scene.style
        if asked.arrangement in ("left", "above"):
            axis = "x" if asked.arrangement == "left" else "y"
            first, second = ([getattr(o.spot, axis) for o in objects if o.group == k] for k in (0, 1))
            assert sum(first) / len(first) < sum(second) / len(second)
        low, high = (asked.ground.low, asked.ground.high) if asked.ground else ((255,) * 3,) * 2
        assert all(a <= level <= b for a, level, b in zip(low, scene.rgb, high, strict=True))
    assert kinds == set(KINDS)


def test_invented_requests_take_any_concept_and_may_leave_the_style_open(shapes):
    asked = [invent_request(shapes.concepts, Random(number)) for number in range(200)]
    assert {request.style is None for request in asked} == {True, False}
    assert all(1 <= len(request.things) <= 4 for request in asked)
    assert {t.concept.hex for request in asked for t in request.things} == {c.hex for c in shapes.concepts}


def test_too_few_pictures_are_refused(shapes):
    with pytest.raises(SfumatoError, match="too few things"):
        ConceptScenes(shapes, numbers=shapes.splits["train"][:3])


def test_varied_requests_join_what_no_scene_has_together_and_stay_drawable(shapes):
    rng = Random(4)
    asked = [invent_request(shapes.concepts, rng, varied=1.0) for _ in range(300)]
    assert all(sum(thing.count for thing in one.things) <= MAX_THINGS for one in asked)
    assert any(one.arrangement == "row" and one.things[0].count > 1 for one in asked)
    assert any(one.place and one.things[0].count > 1 and one.things[0].size for one in asked)
    same = [one for one in asked if len(one.things) > 1 and len({thing.concept.hex for thing in one.things}) == 1]
    assert same and all(len({thing.colour.name for thing in one.things}) == len(one.things) for one in same)
