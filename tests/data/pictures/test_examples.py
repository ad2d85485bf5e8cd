"""The emoji set through the protocol of a user's pictures."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from sfumato.data.emoji.training import EmojiTrainingSet
from sfumato.data.pictures.examples import ExamplePictures
from sfumato.errors import SfumatoError
from tiny.shapes import build_set


@pytest.fixture(scope="module")
def emoji(tmp_path_factory: pytest.TempPathFactory) -> EmojiTrainingSet:
    folder = tmp_path_factory.mktemp("data") / "emoji"
    build_set(folder)
    return EmojiTrainingSet(folder)


def opened(emoji: EmojiTrainingSet, resolution: int, seed: int = 0, **options: object) -> ExamplePictures:
    return emoji.samples({"examples": 6, "held_out": 2} | options, seed, resolution, 8)


def test_examples_come_once_an_epoch_and_some_are_held_out(emoji: EmojiTrainingSet) -> None:
    data = opened(emoji, emoji.size)
    samples = [sample for step in range(4) for sample in data.batch(step, 3)]
    assert Counter(s.picture for s in samples) == dict.fromkeys(range(6), 2)
    assert [s.picture for s in data.validation()] == [6, 7]
    assert data.batch(3, 3) == opened(emoji, emoji.size).batch(3, 3)
    assert len({data.key(view) for view in data.views()}) == 8
    assert data.key(samples[0]) != opened(emoji, emoji.size, seed=1).key(samples[0])


def test_pixels_are_those_of_the_example_or_scaled(emoji: EmojiTrainingSet) -> None:
    data, small = opened(emoji, emoji.size, caption_dropout=0.0), opened(emoji, emoji.size // 2)
    sample = data.batch(0, 1)[0]
    assert torch.equal(data.pixels(sample), emoji.examples(0, 0.5)[sample.picture].picture) and sample.caption
    half = small.pixels(small.batch(0, 1)[0])
    assert half.shape == (3, emoji.size // 2, emoji.size // 2) and half.abs().max() <= 1
    assert data.mask(sample).shape == (1, *sample.size)


def test_captions_are_left_out_as_often_as_asked(emoji: EmojiTrainingSet) -> None:
    assert not any(s.caption for s in opened(emoji, 64, caption_dropout=1.0).batch(0, 6))
    with pytest.raises(SfumatoError, match="single is 2"):
        opened(emoji, 64, single=2.0)
    with pytest.raises(SfumatoError, match="unknown key 'repeats'"):
        opened(emoji, 64, repeats=2)
