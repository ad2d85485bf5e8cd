"""From weighted words to conditioning: windows, and what a weight does to the states."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import sfumato
from conftest import WORDS
from sfumato.errors import SfumatoError
from sfumato.text.encode import MAX_WINDOWS, TextEncoder, weigh
from sfumato.text.prompt import emphasis
from sfumato.text.prompt.chunks import windows


@pytest.fixture(scope="module")
def encoder(model: str) -> TextEncoder:
    return sfumato.load(model).encode


def ids(text: str, size: int = 75) -> list[list[int]]:
    """Windows of a prompt whose letters are tokens: 'a,b' -> [1, 44, 2]; spaces are none."""

    def encode(words: str) -> list[int]:
        return [44 if letter == "," else ord(letter) - 96 for letter in words if letter != " "]

    return [[token.id for token in window] for window in windows(emphasis.read(text)[0], encode, size)]


def test_windows_of_a_long_prompt_end_after_a_comma() -> None:
    assert [len(window) for window in ids("a" * 75)] == [75]
    assert [len(window) for window in ids("a" * 76)] == [75, 1]
    assert [len(window) for window in ids("a" * 60 + "," + "b" * 20)] == [61, 20]
    assert [len(window) for window in ids("a" * 54 + "," + "b" * 21)] == [75, 1]  # the comma is the 21st from the end
    assert [len(window) for window in ids("a" * 55 + "," + "b" * 20)] == [56, 20]  # and here the 20th
    assert [len(window) for window in ids("a" * 74 + "," + "b")] == [75, 1]
    assert [len(window) for window in ids("a" * 60 + "," + "b" * 14 + "," + "c")] == [75, 2]  # a comma waits for none


def test_break_begins_a_window() -> None:
    assert ids("") == [[]]
    assert ids("a BREAK b") == [[1], [2]]
    assert ids("BREAK a") == [[], [1]]
    assert ids("a BREAK") == [[1]]
    assert ids("BREAK") == [[]]
    assert ids("(a BREAK b:1.4)") == [[1], [2]]


@given(st.lists(st.sampled_from(["a", ",", " BREAK "]), max_size=300).map("".join))
def test_windows_lose_nothing(text: str) -> None:
    found = ids(text, 20)
    assert all(len(window) <= 20 for window in found)
    assert [token for window in found for token in window] == [
        44 if letter == "," else 1 for letter in text.replace(" BREAK ", "")
    ]


def test_weights_follow_their_tokens(encoder: TextEncoder) -> None:
    spans, _ = emphasis.read("a (cat:1.5)")
    (window,) = encoder.windows(spans)
    assert [token.weight for token in window] == [1.0] + [1.5] * (len(window) - 1)
    assert [token.id for token in window] == [*WORDS.encode("a"), *WORDS.encode("cat")]


def test_words_without_weights_are_encoded_as_text(encoder: TextEncoder) -> None:
    text = "a cat, a dog"
    (plain,) = encoder([text])
    for kind in ("a1111", "plain", "comfy", "none"):
        (read,) = encoder([emphasis.read(text)[0]], emphasis=kind)
        assert torch.equal(plain.tokens, read.tokens)


def test_emphasis_equals_its_closed_form(encoder: TextEncoder) -> None:
    """The four ways to weigh, written down again from their definitions."""
    prompt = emphasis.read("a (cat:1.5)")[0]
    (window,) = encoder.windows(prompt)
    plain, empty = (cond.tokens[0] for cond in encoder(["a cat", ""]))
    factor = torch.ones(len(plain), 1)
    for place, token in enumerate(window, start=1):
        factor[place] = token.weight
    multiplied = plain * factor
    expected = {
        "none": plain,
        "plain": multiplied,
        "a1111": multiplied * (plain.mean() / multiplied.mean()),
        "comfy": (plain - empty) * factor + empty,
    }
    for kind, states in expected.items():
        (cond,) = encoder([prompt], emphasis=kind)
        torch.testing.assert_close(cond.tokens[0], states, rtol=1e-6, atol=1e-6)
    assert not torch.allclose(expected["a1111"], expected["comfy"], atol=1e-3)


def test_each_window_keeps_its_own_mean() -> None:
    states = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0))
    weighted = weigh(states, [[1, 2.0], [1], [1, 1, 0.5]], "a1111", None)
    torch.testing.assert_close(weighted.mean((1, 2)), states.mean((1, 2)))
    assert torch.equal(weighted[1], states[1])
    torch.testing.assert_close(weighted[0, 1] / weighted[0, 0], 2 * states[0, 1] / states[0, 0])


def test_a_pooled_vector_knows_no_weights(encoder: TextEncoder) -> None:
    conds = encoder([emphasis.read(text)[0] for text in ("a cat", "a (cat:1.5)", "(a:0.2) cat")])
    assert conds[0].pooled is None or all(torch.equal(conds[0].pooled, cond.pooled) for cond in conds)


def test_too_many_windows(encoder: TextEncoder) -> None:
    with pytest.raises(SfumatoError, match=f"shorten it to at most {MAX_WINDOWS} windows"):
        encoder([emphasis.read(" BREAK ".join("a" * (MAX_WINDOWS + 1)))[0]])
