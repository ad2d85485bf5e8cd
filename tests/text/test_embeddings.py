"""Words that vectors stand for: how prompts name them, and that they are read in place of tokens."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import sfumato
from sfumato.errors import SfumatoError
from sfumato.nets.layers import FURTHER
from sfumato.nets.t5 import T5
from sfumato.spec import T5Config
from sfumato.text.embeddings import Embedding, Vocabulary
from sfumato.text.encode import T5Reader, TextEncoder
from sfumato.text.prompt import emphasis
from sfumato.text.prompt.chunks import windows
from sfumato.text.t5_tokenizer import CharacterMap, T5Tokenizer

A, B, C = FURTHER, FURTHER + 1, FURTHER + 2


def letters(text: str) -> list[int]:
    """One token a letter, without blanks."""
    return [44 if letter == "," else ord(letter) for letter in text.lower() if letter != " "]


VOCABULARY = Vocabulary(letters, {"cat": 2, "cats": 1})


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("cat", [(A, B)]),
        ("CAT", [(A, B)]),
        ("cats", [(C,)]),  # the longest name wins
        ("a cat.", [(97,), (A, B), (46,)]),
        ("embedding:cat", [(A, B)]),
        ("embedding:Cat", [(A, B)]),
        ("<embedding:cats>", [(C,)]),
        ("<embedding:cats:0.5>", [(C,)]),
        ("<cat>", [(A, B)]),
        ("<c>", [(60,), (99,), (62,)]),
        ("a embedding:cats b", [(97,), (C,), (98,)]),
        ("", []),
    ],
)
def test_names_stand_for_vectors(text: str, units: list[tuple[int, ...]]) -> None:
    assert VOCABULARY.units(text) == units


def test_an_embedding_that_does_not_fit_begins_a_window() -> None:
    vocabulary = Vocabulary(letters, {"xyz": 4})

    def sizes(text: str) -> list[int]:
        return [len(window) for window in windows(emphasis.read(text)[0], vocabulary.units, 10)]

    assert sizes("aaaaaa xyz") == [10]
    assert sizes("aaaaaaa xyz") == [7, 4]
    assert sizes("aaaaa,a xyz") == [7, 4]  # no comma is waited for
    assert sizes("xyz xyz xyz") == [8, 4]
    assert sizes("aaaaaaaa,a xyz") == [9, 5]  # a full window ends after its comma first


@given(st.lists(st.sampled_from(["a", ",", "cat ", "cats ", " BREAK "]), max_size=200).map("".join))
def test_windows_never_divide_an_embedding(text: str) -> None:
    found = windows(emphasis.read(text)[0], VOCABULARY.units, 7)
    assert all(len(window) <= 7 for window in found)
    for window in found:
        ids = [token.id for token in window]
        assert [k for k, id in enumerate(ids) if id == A] == [k - 1 for k, id in enumerate(ids) if id == B]


@pytest.fixture(scope="module")
def encoder(model: str) -> TextEncoder:
    return sfumato.load(model).encode


def rows_of(encoder: TextEncoder, text: str) -> torch.Tensor:
    """The vectors that the first tower has for a text's tokens."""
    return encoder.towers[0].text_model.embeddings.token_embedding.weight[encoder.tokenizer.encode(text)].detach()


def test_the_vectors_of_a_word_are_read_as_the_word(encoder: TextEncoder) -> None:
    copy = Embedding("thing", (rows_of(encoder, "red heart"),))
    taught = encoder.with_embeddings([copy])
    for emphasis_kind in ("a1111", "comfy"):
        for said, meant in (("a thing, cat", "a red heart, cat"), ("a (thing:1.4)", "a (red heart:1.4)")):
            (named,) = taught([emphasis.read(said)[0]], emphasis=emphasis_kind)
            (spelled,) = encoder([emphasis.read(meant)[0]], emphasis=emphasis_kind)
            assert torch.equal(named.tokens, spelled.tokens)
    (before,) = encoder(["a thing"])
    assert not torch.equal(before.tokens, taught(["a thing"])[0].tokens)


def test_other_vectors_are_read_otherwise(encoder: TextEncoder) -> None:
    vectors = rows_of(encoder, "red heart")
    read = [encoder.with_embeddings([Embedding("thing", (part,))])(["a thing"])[0].tokens for part in
            (vectors, vectors.flip(0), 2 * vectors)]  # fmt: skip
    assert not torch.equal(read[0], read[1]) and not torch.equal(read[0], read[2])


def test_vectors_of_other_models_are_refused(encoder: TextEncoder) -> None:
    width = encoder.towers[0].cfg.hidden_size
    with pytest.raises(SfumatoError, match=rf"vectors of 5 numbers, this model needs {width}"):
        encoder.with_embeddings([Embedding("other", (torch.ones(1, 5),))])
    with pytest.raises(SfumatoError, match="at most 75 together"):
        encoder.with_embeddings([Embedding("long", (torch.ones(76, width),))])


def test_a_prior_is_told_the_vectors_and_not_the_name(encoder: TextEncoder) -> None:
    vectors = rows_of(encoder, "red heart")
    taught = encoder.with_embeddings([Embedding("thing", (vectors,))])
    named, spelled = taught.words("a thing, blue"), encoder.words("a red heart, blue")
    assert torch.equal(named.embeddings, spelled.embeddings) and torch.equal(named.states, spelled.states)
    assert "thing" not in named.text and named.text.split() == ["a", ",", "blue"]
    assert named.lengths[:4] == (0, 1, 0, 0) and sum(named.lengths) == len("a,blue")


def test_t5_reads_its_own_vectors() -> None:
    torch.manual_seed(0)
    cfg = T5Config(vocab_size=5, hidden_size=16, intermediate_size=32, layers=1, heads=2, head_dim=8)
    pieces = [("<pad>", 0), ("</s>", 0), ("<unk>", 0), ("▁thing", -1), ("▁cat", -1)]
    tokenizer = T5Tokenizer(pieces, 2, {0, 1, 2}, CharacterMap.parse(b""))
    reader = T5Reader(16, 6, tokenizer, T5(cfg))
    network = reader.network
    assert network is not None
    ids = tokenizer.encode("cat")[:-1]
    vectors = network.shared.weight[ids].detach()
    taught = replace(reader, embeddings=(Embedding("thing", (torch.ones(1, 2),), vectors),))
    silent = replace(reader, embeddings=(Embedding("thing", (torch.ones(1, 2),)),))
    with torch.no_grad():
        assert torch.equal(taught([emphasis.read("thing")[0]]), reader([emphasis.read("cat")[0]]))
        assert torch.equal(silent([emphasis.read("thing")[0]]), reader([emphasis.read("")[0]]))
