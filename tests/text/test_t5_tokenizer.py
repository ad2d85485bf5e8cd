"""T5's ids are SentencePiece's own, from either of the two files that hold its vocabulary."""

import base64
import io
import json
import random
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from tokenizers import Tokenizer, models

from sfumato.errors import SfumatoError
from sfumato.text.t5_tokenizer import T5Tokenizer, find_t5_tokenizer

LINE = "a red heart blue cat dog snow painting of green tree house with old man Über café 4k it's don't"


@pytest.fixture(scope="module")
def spiece(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vocabulary of some fifty pieces with the marks, the kind and the normaliser of T5's."""
    choose, model = random.Random(0), io.BytesIO()
    lines = [" ".join(choose.choices(LINE.split(), k=8)) for _ in range(500)]
    SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=60, model_type="unigram", minloglevel=2,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, hard_vocab_limit=False,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("t5") / "spiece.model"
    path.write_bytes(model.getvalue())
    return path


@pytest.fixture(scope="module")
def theirs(spiece: Path) -> SentencePieceProcessor:
    return SentencePieceProcessor(model_file=str(spiece))


@pytest.fixture(scope="module")
def ours(spiece: Path) -> T5Tokenizer:
    return T5Tokenizer.from_file(spiece)


@pytest.fixture
def fast(theirs: SentencePieceProcessor, spiece: Path, tmp_path: Path) -> Path:
    """The same vocabulary as `tokenizers` writes it."""
    size = theirs.vocab_size()
    pieces = [(theirs.id_to_piece(i), theirs.get_score(i)) for i in range(size)]
    content = json.loads(Tokenizer(models.Unigram(pieces, 2, False)).to_str())
    content["added_tokens"] = [{"id": i, "content": pieces[i][0], "special": True} for i in range(3)]
    raw = spiece.read_bytes()
    start = raw.index(b"nmt_nfkc\x12") + 9  # the character map's length in three bytes of seven bits, then the map
    length = sum((raw[start + i] & 0x7F) << 7 * i for i in range(3))
    blob = base64.b64encode(raw[start + 3 : start + 3 + length]).decode()
    normaliser = {"type": "Precompiled", "precompiled_charsmap": blob}
    content["normalizer"] = {"type": "Sequence", "normalizers": [normaliser]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    return tmp_path / "tokenizer.json"


def test_the_reference_prompts(ours, fast, theirs, golden: Path) -> None:
    prompts = [
        case["prompt"] for case in json.loads((golden / "text/t5_sentencepiece_tokens.json").read_text())["prompts"]
    ]
    expected = [[*theirs.encode(prompt), 1] for prompt in prompts]
    assert len(prompts) > 50
    assert [ours.encode(prompt) for prompt in prompts] == expected
    assert [T5Tokenizer.from_file(fast).encode(prompt) for prompt in prompts] == expected


@settings(max_examples=100, deadline=None)
@given(st.text() | st.text(alphabet="ab ﬁ\t\nＡ①é㍿½…ｶﾞe\u0301\u1100\u1161\u200b\ufeff😀\x00\xadनम▁<>/s"))
def test_any_text(ours, theirs, text: str) -> None:
    assert ours.encode(text) == [*theirs.encode(text), 1]


def test_its_marks(ours: T5Tokenizer, theirs: SentencePieceProcessor) -> None:
    assert (ours.pad_token_id, ours.eos_token_id, ours.vocab_size) == (0, 1, theirs.vocab_size())
    assert ours.encode("") == ours.encode(" \n") == [1]
    assert 0 not in ours.encode("<pad> </s>") and ours.encode("</s>").count(1) == 1


def test_where_a_model_brings_it(spiece: Path, fast: Path, tmp_path: Path) -> None:
    folder, file = tmp_path / "model", tmp_path / "files/model.safetensors"
    assert find_t5_tokenizer(folder) is None
    (folder / "tokenizer_3").mkdir(parents=True)
    shutil.copy(fast, folder / "tokenizer_3")
    assert find_t5_tokenizer(folder) == folder / "tokenizer_3/tokenizer.json"
    file.parent.mkdir()
    file.touch()
    assert find_t5_tokenizer(file) is None
    shutil.copy(spiece, file.parent)
    assert find_t5_tokenizer(file) == file.parent / "spiece.model"
    assert T5Tokenizer.from_file(file.parent).encode("a red heart") == T5Tokenizer.from_file(fast).encode("a red heart")


def test_what_is_no_t5_tokenizer_is_refused(spiece: Path, tmp_path: Path) -> None:
    raw, odd = spiece.read_bytes(), tmp_path / "odd.model"
    for content in (raw[:-9], raw[:1000], b"\xff" * 40, b"\x0a\x02\x08\x01", b"hello, this is text", b"\x0a\x00"):
        odd.write_bytes(content)
        with pytest.raises(SfumatoError, match=r"odd.model is no tokenizer of T5's kind"):
            T5Tokenizer.from_file(odd)
    bpe = tmp_path / "tokenizer.json"
    Tokenizer(models.BPE()).save(str(bpe))
    with pytest.raises(SfumatoError, match="its model is BPE"):
        T5Tokenizer.from_file(bpe)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SfumatoError, match=r"holds no spiece.model and no tokenizer.json"):
        T5Tokenizer.from_file(tmp_path / "empty")
    with pytest.raises(SfumatoError, match="lacks '</s>'"):
        T5Tokenizer([("<pad>", 0.0), ("<unk>", 0.0)], 1, set(), lambda text: text)
