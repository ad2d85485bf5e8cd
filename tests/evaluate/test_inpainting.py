"""Completing scenes: what is taken out, and how what is put there is judged."""

import pytest
import torch

from sfumato.data.emoji.dataset import EmojiData
from sfumato.data.emoji.noun_scenes import STYLES, NounScenes
from sfumato.evaluate.inpainting import KINDS, Gap, Task, gaps, judged
from sfumato.evaluate.judge import load_judge
from sfumato.evaluate.naming import Names
from sfumato.evaluate.objects import find_objects

TASKS: tuple[Task, ...] = ("inpaint", "outpaint")


@pytest.fixture(scope="module")
def names(forms: EmojiData) -> Names:
    return Names.of(forms, load_judge(None, forms.size, torch.device("cpu")))


@pytest.fixture(scope="module", params=TASKS)
def task(request: pytest.FixtureRequest) -> Task:
    return request.param


@pytest.fixture(scope="module")
def holes(forms: EmojiData, task: Task) -> list[Gap]:
    return gaps(NounScenes(forms, -1), task, STYLES, 24)


def test_the_gap_is_where_the_thing_lies_and_nowhere_else(task: Task, holes: list[Gap]):
    assert {gap.question.kind for gap in holes} == set(KINDS[task])
    for gap in holes:
        left, top, right, bottom = gap.question.things[0].box
        assert gap.open[top:bottom, left:right].float().mean() > (0.3 if task == "inpaint" else 0.95)
        assert 0.03 < gap.open.float().mean() <= 0.5
        assert not ((gap.given - gap.composed).abs().amax(0) * ~gap.open > 0.3).any()


def test_a_composed_scene_completes_itself(task: Task, holes: list[Gap], names: Names):
    found = [judged(gap, gap.composed.where(gap.open, gap.given), names) for gap in holes]
    answers = [answer for one in found for answer in one]
    wrong = [answer for answer in answers if not answer.right and answer.attribute not in ("object", "whole scene")]
    assert len(wrong) < 0.05 * len(answers)
    objects = [answer.right for answer in answers if answer.attribute == "object"]
    assert sum(objects) > 0.8 * len(objects)
    assert {answer.attribute for answer in answers} >= {"object", "colour", "count", "position", "outside"}


def test_an_empty_gap_shows_nothing_and_a_change_outside_is_seen(holes: list[Gap], names: Names):
    for gap in holes[:4]:
        ground = gap.given[:, :1, :1]
        empty = {answer.attribute: answer for answer in judged(gap, gap.given.where(~gap.open, ground), names)}
        assert len(find_objects(gap.given.where(~gap.open, ground)[None])[0]) < len(gap.question.scene.objects)
        assert empty["object"].seen == "nothing" and empty["outside"].right and not empty["count"].right
        inverted = {answer.attribute: answer for answer in judged(gap, gap.given.where(gap.open, -gap.given), names)}
        assert not inverted["outside"].right and not inverted["whole scene"].right
