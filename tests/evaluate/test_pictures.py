import numpy as np
import torch

from sfumato.data.emoji.dataset import EmojiData
from sfumato.evaluate.pictures import choose, in_groups, look, on_colours, on_white, spread


def test_choice_is_fixed_grows_at_its_end_and_repeats_no_concept_before_all_have_come(squares: EmojiData):
    train = squares.splits["train"]
    many = choose(squares, train, 60, 3)
    assert np.array_equal(many[:10], choose(squares, train, 10, 3))
    assert not np.array_equal(many[:10], choose(squares, train, 10, 4))
    concepts = [squares.concept_index(int(i)) for i in many]
    assert len(set(concepts[:22])) == len(set(concepts[22:44])) == 22
    assert len(choose(squares, train, 10_000, 0)) == len(train)
    assert len(choose(squares, train[:0], 10, 0)) == 0


def test_styles_are_kept_apart(squares: EmojiData):
    numbers = in_groups(squares, "train", ("3d", "blob"))
    assert {squares.style(int(i)) for i in numbers} == {"3d", "blob"}
    assert len(numbers) == 22 + 22 - 1


def test_looks_are_found_by_number(squares: EmojiData, connoisseur):
    numbers = squares.splits["train"][::2]
    looks = look(connoisseur, numbers, on_white(squares, numbers))
    wanted = numbers[[5, 1, 5]]
    some = looks.of(wanted)
    assert np.array_equal(some.numbers, wanted)
    assert torch.equal(some.vectors, looks.vectors[[5, 1, 5]]) and torch.equal(
        some.thumbnails, looks.thumbnails[[5, 1, 5]]
    )
    assert looks.thumbnails.shape == (len(numbers), 3 * 32 * 32)
    assert len(look(connoisseur, numbers[:0], on_white(squares, numbers[:0]))) == 0


def test_grounds(squares: EmojiData):
    numbers = squares.splits["train"][:40]
    white, colours = (
        torch.cat(list(batches)) for batches in (on_white(squares, numbers), on_colours(squares, numbers))
    )
    assert white.shape == colours.shape == (40, 3, 32, 32)
    assert (white[:, :, 0, 0] == 1).all()
    assert torch.equal(colours[1, :, 0, 0], colours[22, :, 0, 0]) and not torch.equal(colours[1], colours[2])
    assert torch.equal(white[:, :, 16, 16], colours[:, :, 16, 16])


def test_spread_takes_both_ends():
    assert spread(np.arange(10), 3).tolist() == [0, 4, 9]
    assert spread(np.arange(2), 3).tolist() == [0, 1]
