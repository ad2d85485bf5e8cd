"""Completing scenes: what is taken out, and how what is put there is judged."""

import pytest

from sfumato.data.emoji.captions import STYLES
from sfumato.data.emoji.concept_scenes import ConceptScenes
from sfumato.data.emoji.dataset import EmojiData
from sfumato.evaluate.emoji.classifier import Classifier
from sfumato.evaluate.emoji.inpainting import KINDS, Gap, Task, gaps, judged
from sfumato.evaluate.objects import find_objects

TASKS: tuple[Task, ...] = ("inpaint", "outpaint")


@pytest.fixture(scope="module")
def classifier(forms: EmojiData, form_knower) -> Classifier:
    return Classifier(forms, form_knower)


@pytest.fixture(scope="module", params=TASKS)
def task(request: pytest.FixtureRequest) -> Task:
    return request.param


@pytest.fixture(scope="module")
def holes(forms: EmojiData, task: Task) -> list[Gap]:
    return gaps(ConceptScenes(forms, -1), task, STYLES, 6)


def test_the_gap_is_where_the_thing_lies_and_nowhere_else(task: Task, holes: list[Gap]):
    assert {gap.question.kind for gap in holes} == set(KINDS[task])
    for gap in holes:
        assert 0.01 < gap.open.float().mean() <= 0.55
        changed = (gap.given - gap.composed).abs().amax(0) > 0.3
        assert not (changed & ~gap.open).any()


def test_a_composed_scene_completes_itself(holes: list[Gap], classifier: Classifier):
    found = [judged(gap, gap.composed.where(gap.open, gap.given), classifier) for gap in holes]
    answers = [answer for one in found for answer in one]
    wrong = [answer for answer in answers if not answer.right and answer.attribute in ("position", "outside")]
    assert len(wrong) < 0.05 * len(answers)
    things = [answer.right for answer in answers if answer.attribute == "thing"]
    assert sum(things) > 0.7 * len(things)
    assert {answer.attribute for answer in answers} >= {"thing", "colour", "count", "position", "outside"}


def test_an_empty_gap_shows_nothing_and_a_change_outside_is_seen(holes: list[Gap], classifier: Classifier):
    for gap in holes[:4]:
        ground = gap.given[:, :1, :1]
        empty = {answer.attribute: answer for answer in judged(gap, gap.given.where(~gap.open, ground), classifier)}
        assert len(find_objects(gap.given.where(~gap.open, ground)[None])[0]) < len(gap.question.scene.objects)
        assert empty["thing"].seen == "nothing" and empty["outside"].right and not empty["count"].right
        x = gap.given.where(gap.open, -gap.given)
        inverted = {answer.attribute: answer for answer in judged(gap, x, classifier)}
        assert not inverted["outside"].right and not inverted["whole scene"].right
