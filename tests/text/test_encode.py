"""From weighted words to conditioning: windows, and what a weight does to the states."""

from dataclasses import replace
from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import sfumato
from conftest import SPEC, WORDS
from sfumato.errors import SfumatoError
from sfumato.nets.clip import CLIPText
from sfumato.nets.t5 import T5
from sfumato.spec import T5Config
from sfumato.text.encode import MAX_WINDOWS, T5Reader, TextEncoder, weigh
from sfumato.text.prompt import emphasis
from sfumato.text.prompt.chunks import windows
from sfumato.text.t5_tokenizer import CharacterMap, T5Tokenizer


@pytest.fixture(scope="module")
def encoder(model: str) -> TextEncoder:
    return sfumato.load(model).encode


def ids(text: str, size: int = 75) -> list[list[int]]:
    """Windows of a prompt whose letters are tokens: 'a,b' -> [1, 44, 2]; spaces are none."""

    def encode(words: str) -> list[tuple[int, ...]]:
        return [(44 if letter == "," else ord(letter) - 96,) for letter in words if letter != " "]

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


def tower(pooled: Literal["plain", "projected"]) -> CLIPText:
    sizes = SPEC.text if pooled == "plain" else replace(SPEC.text, projection_dim=16)
    return CLIPText(replace(sizes, pooled=pooled)).requires_grad_(False)


def test_two_towers_and_t5_are_weighed_each_by_itself() -> None:
    """As in XL and 3: the states side by side, those of T5 after them, and a pooled vector that knows no weights."""
    torch.manual_seed(0)
    words = T5Tokenizer(
        [("<pad>", 0), ("</s>", 0), ("<unk>", 0), ("▁a", -1), ("▁cat", -1)], 2, {0, 1, 2}, CharacterMap.parse(b"")
    )
    network = T5(
        T5Config(vocab_size=5, hidden_size=80, intermediate_size=32, layers=1, heads=2, head_dim=8)
    ).requires_grad_(False)
    encoder = TextEncoder(WORDS, (tower("plain"), tower("projected")), T5Reader(80, 6, words, network))
    one, two = encoder(["a cat", emphasis.read("a (cat:1.5)")[0]], emphasis="plain")
    assert one.pooled is not None and one.pooled.shape == (1, 48) and torch.equal(one.pooled, two.pooled)
    ratio = (two.tokens / one.tokens)[0].nan_to_num(1.0)
    clip, t5 = ratio[:77], ratio[77:]
    weights = [token.weight for token in encoder.windows(emphasis.read("a (cat:1.5)")[0])[0]]
    torch.testing.assert_close(clip[:, 0], torch.tensor([1.0, *weights] + [1.0] * (76 - len(weights))))
    torch.testing.assert_close(t5[:, 0], torch.tensor([1.0, 1.5, 1.0, 1.0, 1.0, 1.0]))
    (mean,) = encoder([emphasis.read("a (cat:1.5)")[0]])
    for half in (slice(0, 32), slice(32, 64)):  # each tower keeps its own mean
        torch.testing.assert_close(mean.tokens[0, :77, half].mean(), one.tokens[0, :77, half].mean())


def test_too_many_windows(encoder: TextEncoder) -> None:
    with pytest.raises(SfumatoError, match=f"shorten it to at most {MAX_WINDOWS} windows"):
        encoder([emphasis.read(" BREAK ".join("a" * (MAX_WINDOWS + 1)))[0]])
