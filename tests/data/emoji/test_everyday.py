"""Everyday requests in six languages, and how the embedded model reads them."""

import pytest

import sfumato
from sfumato.data.emoji.captions import COLOURS, LANGUAGES, STYLES
from sfumato.data.emoji.everyday import concept_names, everyday
from sfumato.data.emoji.nouns import TINTS
from sfumato.nets.layout import ARRANGEMENTS, PLACES, POSES, SIZES

LEAST = {"en": 0.9, "th": 0.6, "zh": 0.85, "id": 0.85, "uk": 0.6, "ja": 0.8}  # shares that are read right, whole


def test_what_is_expected_can_be_said():
    names, grounds = set(concept_names()), {colour.name for colour in COLOURS}
    for request in everyday():
        assert request.arrangement in ARRANGEMENTS and {request.place} <= {None, *PLACES}
        assert {request.style} <= {None, *STYLES} and {request.ground} <= {None, *grounds}
        assert all(request.texts[language] for language in LANGUAGES)
        for thing in request.things:
            assert set(thing.concepts) & names and set(thing.tints) <= {None, *TINTS}
            assert {thing.size} <= {None, *SIZES} and {thing.pose} <= {None, *POSES}


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_embedded_model_understands_what_people_ask_for(language):
    model = sfumato.load()
    assert model.prior is not None and model.prior.cfg.concepts == len(concept_names())
    found = [model.prior.understand(model.encode.words(request.texts[language])) for request in everyday()]
    right = [request.met_by(one) for request, one in zip(everyday(), found, strict=True)]
    wrong = [request.texts[language] for request, met in zip(everyday(), right, strict=True) if not met]
    assert sum(right) >= LEAST[language] * len(right), wrong


def test_another_reading_is_not_taken_for_right():
    first, second = everyday()[:2]
    model = sfumato.load()
    assert model.prior is not None
    found = model.prior.understand(model.encode.words(first.texts["en"]))
    assert first.met_by(found) and not second.met_by(found)
