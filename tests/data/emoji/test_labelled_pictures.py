"""Pictures and texts with labels: what is held out, and that labels say what is shown."""

from random import Random

import numpy as np

from sfumato.data.emoji.captions import STYLES
from sfumato.data.emoji.dataset import EmojiData
from sfumato.data.emoji.labelled_pictures import SIDE, LabelledEmoji
from sfumato.data.protocol import UNKNOWN

WIDTH = 4 + 5  # slots of a row: concepts, then one of each other kind


def test_held_out_pictures_depend_on_the_seed_and_are_never_shown(shapes: EmojiData):
    first, again, other = (LabelledEmoji(shapes, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.held_out, again.held_out) and not np.array_equal(first.held_out, other.held_out)
    assert set(shapes.splits["unseen_picture"]) <= set(first.held_out)
    assert len(first.held_out) > len(shapes.splits["unseen_picture"])
    assert sorted([*first.held_out, *first.numbers]) == list(range(len(shapes)))
    assert first.key(0) == f"{shapes.style(0)}/{shapes.concept(0).hex}"


def test_labels_of_a_single_picture_are_its_own(shapes: EmojiData):
    labelled, rng, singles = LabelledEmoji(shapes, 0), Random(0), 0
    for number in range(0, len(shapes), 5):
        picture = labelled.picture(number, rng)
        if picture.whole:
            continue
        singles += 1
        assert picture.rgba.shape == (SIDE, SIDE, 4) and picture.shown[1:4] == [UNKNOWN] * 3
        assert picture.shown[0] == shapes.concept_index(number)
        assert picture.shown[4] == STYLES.index(shapes.style(number))
        assert picture.shown[6:] == [UNKNOWN, 0, 0]  # no tint is known; one thing, alone
    assert singles > 10


def test_pictures_and_texts_have_labels_of_every_kind(shapes: EmojiData):
    labelled, rng = LabelledEmoji(shapes, 0), Random(0)
    limits = [classes for slots, classes in labelled.kinds.values() for _ in range(slots)]
    shown = [labelled.picture(int(labelled.numbers[k % len(labelled.numbers)]), rng) for k in range(200)]
    said = [labelled.text(rng) for _ in range(400)]
    for rows in ([one.shown for one in shown], [labels for _, labels in said]):
        assert all(len(row) == len(limits) == WIDTH for row in rows)
        assert all(UNKNOWN <= label < limit for row in rows for label, limit in zip(row, limits, strict=True))
    assert any(one.whole and one.shown[1] != UNKNOWN for one in shown), "some are scenes of several things"
    assert all(text and labels[4] != UNKNOWN for text, labels in said), "what a text leaves open is said so"
    assert {labels[4] for _, labels in said} == set(range(len(STYLES) + 1))
