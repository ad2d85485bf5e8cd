"""The check of scenes on scenes that are right, and on scenes that are wrong in a known way."""

import numpy as np
import pytest
import torch

from sfumato.data.emoji.captions import COLOURS, LANGUAGES, STYLES
from sfumato.data.emoji.concept_scenes import ConceptScenes
from sfumato.data.emoji.cutout import Cutout
from sfumato.data.emoji.dataset import EmojiData
from sfumato.data.emoji.nouns import TINTS
from sfumato.evaluate.emoji.attributes import NOTHING, WHOLE, answers, assign, colour_of, tint
from sfumato.evaluate.emoji.classifier import Classifier
from sfumato.evaluate.emoji.poses import STANDS, pose_of, tellable
from sfumato.evaluate.emoji.questions import KINDS, Question, questions
from sfumato.evaluate.emoji.scores import Examined, score_attributes
from sfumato.evaluate.objects import Found

CLEAR = ("colour", "count", "many", "left", "right", "above", "below", "small")


@pytest.fixture(scope="module")
def classifier(forms: EmojiData, form_knower) -> Classifier:
    return Classifier(forms, form_knower)


@pytest.fixture(scope="module")
def scenes(forms: EmojiData) -> ConceptScenes:
    return ConceptScenes(forms, -1)


@pytest.fixture(scope="module")
def asked(scenes: ConceptScenes) -> list[Question]:
    return questions(scenes, STYLES, 5, CLEAR)


def test_kinds_take_turns_and_fewer_are_the_beginning_of_more(scenes: ConceptScenes, asked: list[Question]):
    assert [question.kind for question in asked] == list(CLEAR) * 5
    assert questions(scenes, STYLES, 2, CLEAR) == asked[: 2 * len(CLEAR)]
    assert {question.scene.style for question in questions(scenes, ("flat",), 2, CLEAR)} == {"flat"}


@pytest.mark.parametrize(("kind", "words"), [("right", " to the right of "), ("below", " below ")])
def test_a_turned_question_names_the_other_thing_first(asked: list[Question], kind: str, words: str):
    question = next(question for question in asked if question.kind == kind)
    first, second = (question.scene.asked.things[thing.group].concept.names["en"] for thing in question.things)
    text = question.prompt("en", False, 0)
    assert question.things == list(question.scene.objects)[::-1]
    assert words in text and text.index(first) < text.index(second)
    assert len({question.prompt(language, False, 0) for language in LANGUAGES}) == 6


def test_unseen_words_are_fixed_by_their_seed(asked: list[Question]):
    assert asked[0].prompt("en", True, 3) == asked[0].prompt("en", True, 3) != asked[0].prompt("en", False, 3)
    assert len({asked[0].prompt("en", True, seed) for seed in range(5)}) > 1


def test_composed_scenes_are_found_right(scenes: ConceptScenes, asked: list[Question], classifier: Classifier):
    real = [answers(question, scenes.draw(question.scene).picture, scenes, classifier) for question in asked]
    found = score_attributes([Examined("en", one) for one in real], real).scores
    assert set(found) == {"thing", "background", *CLEAR, WHOLE}
    for name in ("background", "left", "right", "above", "below", "small"):
        assert found[name].drawn.mean == 1, name
    for name in ("colour", "thing", "count", "many"):
        assert found[name].drawn.mean > 0.7, name


def test_the_wrong_scene_is_found_wrong(scenes: ConceptScenes, asked: list[Question], classifier: Classifier):
    kinds = {question.kind: question for question in asked}
    for kind, shown in (("count", "colour"), ("left", "right"), ("above", "left"), ("many", "small")):
        x = scenes.draw(kinds[shown].scene).picture
        found = answers(kinds[kind], x, scenes, classifier)
        assert not found[-1].right and found[-1].attribute == WHOLE


def test_a_mirrored_scene_has_its_sides_changed(scenes: ConceptScenes, asked: list[Question], classifier: Classifier):
    question = next(question for question in asked if question.kind == "left")
    mirrored = scenes.draw(question.scene).picture.flip(2)
    found = {answer.attribute: answer for answer in answers(question, mirrored, scenes, classifier)}
    assert (found["position"].asked, found["position"].seen) == ("left", "right")


def test_an_empty_picture_shows_nothing(scenes: ConceptScenes, asked: list[Question], classifier: Classifier):
    for question in asked[: len(CLEAR)]:
        for answer in answers(question, torch.ones(3, 64, 64), scenes, classifier):
            assert answer.attribute in ("background", "count", WHOLE) or answer.seen == NOTHING
            assert not answer.right or answer.attribute == "background"


def flag() -> Cutout:
    """A pole with a flag at its upper right: in every pose another picture."""
    rgba = np.zeros((40, 24, 4), np.uint8)
    rgba[:, :5] = (90, 60, 30, 255)
    rgba[:14, 5:] = (220, 30, 30, 255)
    return Cutout.of(rgba)


@pytest.mark.parametrize("pose", STANDS)
def test_a_pose_is_known(pose: str):
    angle, mirrored = STANDS[pose][-1]
    rgba = torch.from_numpy(flag().posed(*flag().size(50), angle, mirrored).copy()).movedim(-1, 0)
    x = torch.ones(3, 96, 96)
    window = (slice(None), slice(20, 20 + rgba.shape[1]), slice(20, 20 + rgba.shape[2]))
    x[window] = (rgba[:3] + 1 - rgba[3:]) * 2 - 1
    mask = torch.zeros(96, 96, dtype=torch.bool)
    mask[window[1:]] = rgba[3] > 0.5
    assert pose_of(x, Found.of(mask), flag()) == pose
    assert tellable(flag(), pose) == (pose != "upright")


def test_what_looks_the_same_in_every_pose_is_not_asked_for():
    y, x = np.mgrid[:40, :40] - 19.5
    disc = np.zeros((40, 40, 4), np.uint8)
    disc[np.hypot(x, y) < 19] = (220, 30, 30, 255)
    assert not any(tellable(Cutout.of(disc), pose) for pose in STANDS)


def test_kinds_are_those_of_the_benchmark():
    assert set(CLEAR) | {"tilted", "mirrored", "upside_down"} == set(KINDS)


def test_things_are_assigned_so_that_the_whole_fits_best():
    likeness = torch.tensor([[0.9, 0.8], [0.85, 0.1], [0.2, 0.3]])
    assert assign(likeness) == [1, 0]
    assert assign(likeness[:1]) == [0, None]
    assert assign(likeness[:0]) == [None, None]


def test_the_same_others_stand_beside_a_concept(forms: EmojiData, classifier: Classifier):
    concept, n = forms.concepts[2], len(forms.concepts)
    assert classifier.called(torch.eye(n)[2], concept) == concept.names["en"]
    assert classifier.called(torch.eye(n)[3], concept) == forms.concepts[3].names["en"]


@pytest.mark.parametrize("name", TINTS)
def test_a_tint_is_known_in_light_and_shade(name: str):
    colour = next(colour for colour in COLOURS if colour.name == name)
    x = torch.tensor(colour.low).view(3, 1, 1) / 127.5 - 1 + torch.zeros(3, 8, 8)
    x[:, :2] = 1  # a highlight
    x[:, 2:4] = (x[:, 2:4] + 1) * 0.8 - 1
    assert tint(x, Found.of(torch.ones(8, 8, dtype=torch.bool))) == name


@pytest.mark.parametrize("place", range(len(COLOURS)))
def test_every_colour_is_known_by_its_corners_and_what_lies_between(place: int):
    colour = COLOURS[place]
    ends = torch.tensor([colour.low, colour.high]).float()
    assert colour_of(torch.cat([ends, ends.mean(0, keepdim=True)])).tolist() == [place] * 3
