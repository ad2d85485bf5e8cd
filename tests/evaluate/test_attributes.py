"""The check of scenes on scenes that are right, and on scenes that are wrong in a known way."""

from dataclasses import replace

import pytest
import torch

from sfumato.data.emoji.captions import COLOURS, LANGUAGES
from sfumato.data.emoji.dataset import EmojiData
from sfumato.data.emoji.noun_scenes import STYLES, NounScenes
from sfumato.data.emoji.nouns import TINTS
from sfumato.evaluate.attributes import KINDS, NOTHING, Question, answers, assign, questions, tint
from sfumato.evaluate.judge import load_judge
from sfumato.evaluate.naming import Names
from sfumato.evaluate.objects import Found
from sfumato.evaluate.scores import Examined, score_attributes


@pytest.fixture(scope="module")
def names(forms: EmojiData) -> Names:
    """The judge that ships, on forms that it never saw."""
    return Names.of(forms, load_judge(None, forms.size, torch.device("cpu")))


@pytest.fixture(scope="module")
def scenes(forms: EmojiData) -> NounScenes:
    return NounScenes(forms, -1)


@pytest.fixture(scope="module")
def asked(scenes: NounScenes) -> list[Question]:
    return questions(scenes, STYLES, 40)


def test_kinds_take_turns_and_fewer_are_the_beginning_of_more(scenes: NounScenes, asked: list[Question]):
    assert [question.kind for question in asked] == list(KINDS) * 8
    assert questions(scenes, STYLES, 12) == asked[:12]
    assert {question.scene.style for question in questions(scenes, ("flat",), 10)} == {"flat"}
    assert questions(scenes, ("noto",), 1) == []


def test_a_question_from_the_right_names_the_right_thing_first(asked: list[Question]):
    question = next(question for question in asked if question.kind == "right")
    left, right = question.scene.objects
    assert question.things == [right, left] and left.box[0] < right.box[0]
    text = question.prompt("en")
    assert " to the right of " in text and text.index(right.noun.names["en"]) < text.index(left.noun.names["en"])
    assert len({question.prompt(language) for language in LANGUAGES}) == 6


def test_composed_scenes_are_found_right(scenes: NounScenes, asked: list[Question], names: Names):
    real = [answers(question, scenes.draw(question.scene).picture, names) for question in asked]
    found = score_attributes([Examined("en", 0, one) for one in real], real, len(real)).scores
    assert list(found) == ["object", "colour", "background", "count", "left", "right", "above", "whole scene"]
    for name in ("background", "count", "left", "right", "above"):
        assert found[name].drawn == 1, name
    assert found["colour"].drawn > 0.9 and found["object"].drawn > 0.9 and found["whole scene"].drawn > 0.8
    for name, score in found.items():
        assert score.chance is None or score.drawn > 1.4 * score.chance, name


def test_the_wrong_scene_is_found_wrong(scenes: NounScenes, asked: list[Question], names: Names):
    """A scene of another kind is shown: nothing but chance makes its answers right."""
    kinds = {question.kind: question for question in asked}
    for kind, shown in (("count", "one"), ("left", "right"), ("right", "left"), ("above", "left")):
        other = replace(kinds[kind], scene=kinds[shown].scene)
        found = answers(kinds[kind], scenes.draw(other.scene).picture, names)
        assert not found[-1].right and found[-1].attribute == "whole scene"


def test_a_mirrored_scene_has_its_sides_changed(scenes: NounScenes, asked: list[Question], names: Names):
    question = next(question for question in asked if question.kind == "left")
    mirrored = scenes.draw(question.scene).picture.flip(2)
    found = {answer.attribute: answer for answer in answers(question, mirrored, names)}
    assert (found["position"].asked, found["position"].seen) == ("left", "right")


def test_an_empty_picture_shows_nothing(asked: list[Question], names: Names):
    for question in asked[:5]:
        found = answers(question, torch.ones(3, 64, 64), names)
        for answer in found:
            assert answer.attribute in ("background", "whole scene", "count") or answer.seen == NOTHING
            assert not answer.right or answer.attribute == "background"


def test_things_are_assigned_so_that_the_whole_is_most_alike():
    likeness = torch.tensor([[0.9, 0.8], [0.85, 0.1], [0.2, 0.3]])
    assert assign(likeness) == [1, 0]
    assert assign(likeness[:1]) == [0, None]
    assert assign(likeness[:0]) == [None, None]


@pytest.mark.parametrize("name", TINTS)
def test_a_tint_is_known_in_light_and_shade(name: str):
    colour = next(colour for colour in COLOURS if colour.name == name)
    x = torch.tensor(colour.low).view(3, 1, 1) / 127.5 - 1 + torch.zeros(3, 8, 8)
    x[:, :2] = 1  # a highlight
    x[:, 2:4] = (x[:, 2:4] + 1) * 0.8 - 1
    assert tint(x, Found.of(torch.ones(8, 8, dtype=torch.bool))) == name
