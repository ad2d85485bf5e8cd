import pytest
import torch

from sfumato.checkpoint.keymap import CONV1X1, IDENTITY, SPLIT3, SWAP_HALVES, TRANSPOSE, KeyMap, Rule


@pytest.mark.parametrize(
    ("transform", "ours"),
    [
        (IDENTITY, [(4, 6)]),
        (CONV1X1, [(4, 6)]),
        (TRANSPOSE, [(4, 6)]),
        (SPLIT3, [(4, 6)] * 3),
        (SPLIT3, [(4,)] * 3),
        (SWAP_HALVES, [(4, 6)]),
        (SWAP_HALVES, [(4,)]),
    ],
)
def test_transforms_invert_bit_for_bit(transform, ours):
    tensors = [torch.randn(shape) for shape in ours]
    theirs = list(transform.to_theirs(tensors))
    assert all(torch.equal(a, b) for a, b in zip(tensors, transform.to_ours(theirs), strict=True))
    again = transform.to_theirs(list(transform.to_ours(theirs)))
    assert all(torch.equal(a, b) for a, b in zip(theirs, again, strict=True))


def test_split_takes_query_key_value_in_this_order():
    stacked = torch.arange(6.0).reshape(6, 1)
    keymap = KeyMap({"text": (Rule(("q", "k", "v"), ("in_proj",), SPLIT3),)})
    ours = keymap.to_ours("text", {"in_proj": stacked}.__getitem__)
    assert [ours[name].flatten().tolist() for name in "qkv"] == [[0, 1], [2, 3], [4, 5]]
    assert torch.equal(keymap.to_theirs("text", ours)["in_proj"], stacked)


def test_swap_halves_swaps():
    assert SWAP_HALVES.to_ours([torch.arange(4)])[0].tolist() == [2, 3, 0, 1]


def test_match_names_every_difference():
    keymap = KeyMap(
        {"unet": (Rule(("a",), ("x.a",)), Rule(("b",), ("x.b",)), Rule(("c",), ("x.c",)))},
        ignored=(r"junk\..*",),
        aliases=((r"old\.(.*)", r"x.\1"),),
    )
    expected = {"x.a": (1,), "x.b": (2,), "x.c": (3,)}
    match = keymap.match(expected, {"old.a": (1,), "x.b": (5,), "junk.1": (), "stranger": ()})
    assert match.names == {"x.a": "old.a", "x.b": "x.b"}
    assert match.missing == ["x.c"]
    assert match.left_over == ["stranger"]
    assert match.misshapen == ["x.b: (5,) in the file, (2,) expected"]
    assert match.ignored == ["junk.1"]
    assert not match.complete


def test_the_same_tensor_under_its_old_and_new_name_is_left_over():
    keymap = KeyMap({"unet": (Rule(("a",), ("x.a",)),)}, aliases=((r"old\.(.*)", r"x.\1"),))
    assert keymap.match({"x.a": ()}, {"x.a": (), "old.a": ()}).left_over == ["old.a"]


def test_rules_must_name_all_of_ours_and_theirs_once():
    with pytest.raises(ValueError, match="two rules"):
        KeyMap({"unet": (Rule(("a",), ("x",)), Rule(("b",), ("x",)))})
    keymap = KeyMap({"unet": (Rule(("a",), ("x",)),)})
    with pytest.raises(ValueError, match="do not name"):
        keymap.to_theirs("unet", {"a": torch.zeros(1), "b": torch.zeros(1)})
