"""Our CLIP tokenizer against OpenAI's ids, a plain restatement of its rules, and transformers."""

import gzip
import json
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from importlib import resources
from itertools import pairwise
from pathlib import Path

import pytest
import regex
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer as TransformersTokenizer

from sfumato.errors import SfumatoError
from sfumato.text.tokenizer import CLIPTokenizer, byte_symbols, clean

CAPTIONS = {
    "en": ["a red heart, 3D style", "a smiling cat with hearts for eyes on a blue background", "man's shoe, 2 apples"],
    "th": ["หัวใจสีแดง แบบสามมิติ", "แมวยิ้มบนพื้นหลังสีเหลือง", "โทนผิวสีเข้ม, น้ำแข็ง"],
    "zh": ["红色的心, 立体风格", "一只微笑的猫, 蓝色背景", "较深肤色, 扁平风格"],
    "id": ["hati merah, gaya datar", "kucing tersenyum dengan latar biru", "warna kulit gelap"],
    "uk": ["червоне серце, плоский стиль", "п'ять усміхнених котів на синьому тлі", "їжак, ґанок, єнот"],
    "ja": ["赤いハート, 立体スタイル", "笑っている猫, 青い背景のイラスト", "ドアから出る人、が・ギ・ポ"],
}
CORPUS = [caption for captions in CAPTIONS.values() for caption in captions] * 2


@pytest.fixture(scope="module")
def openai() -> CLIPTokenizer:
    return shared_openai()


@pytest.fixture(scope="module")
def small() -> CLIPTokenizer:
    return CLIPTokenizer.train(CORPUS, 700, max_length=48)


@pytest.fixture(scope="module")
def prompts(golden: Path) -> list[dict]:
    return json.loads((golden / "text/clip_bpe_tokens.json").read_text())["prompts"]


def test_equals_openai_on_every_golden_prompt(openai: CLIPTokenizer, prompts: list[dict]) -> None:
    assert len(prompts) == 61
    for case in prompts:
        ids = openai.encode(case["prompt"])
        assert ids == case["ids"], case["prompt"]
        assert openai.pad(ids) == case["padded_77_with_eot_sd1"]
        assert openai.pad(ids, pad_id=0) == case["tokenize_77_truncated"]
        assert openai.decode(ids) == case["decoded"].rstrip(" ")


def test_rows_are_int64(openai: CLIPTokenizer, prompts: list[dict]) -> None:
    rows = openai([case["prompt"] for case in prompts])
    assert rows.dtype == torch.int64 and rows.shape == (61, 77)
    assert rows.tolist() == [case["padded_77_with_eot_sd1"] for case in prompts]
    assert openai([]).shape == (0, 77)
    assert (openai.vocab_size, openai.bos_token_id, openai.eos_token_id) == (49408, 49406, 49407)


@lru_cache
def shared_openai() -> CLIPTokenizer:
    return CLIPTokenizer.openai()


@lru_cache
def ranks_and_vocab() -> tuple[dict[tuple[str, str], int], dict[str, int]]:
    packed = resources.files("sfumato").joinpath("assets/clip/merges.txt.gz").read_bytes()
    merges = [(left, right) for left, right in (line.split() for line in gzip.decompress(packed).decode().splitlines())]
    symbols = [*byte_symbols(), *(s + "</w>" for s in byte_symbols()), *(left + right for left, right in merges)]
    vocab = {symbol: i for i, symbol in enumerate([*symbols, "<|startoftext|>", "<|endoftext|>"])}
    return {pair: rank for rank, pair in enumerate(merges)}, vocab


def original_ids(text: str, ranks: dict[tuple[str, str], int], vocab: dict[str, int]) -> list[int]:
    """The original rules restated plainly: merge all occurrences of the best-ranked pair, until none is left."""
    marks = r"<\|startoftext\|>|<\|endoftext\|>"
    words = regex.compile(marks + r"|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", regex.IGNORECASE)
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbol = dict(zip(printable + [b for b in range(256) if b not in printable], byte_symbols(), strict=True))
    ids: list[int] = []
    for word in words.findall(clean(text)):
        if regex.fullmatch(marks, word):
            ids.append(vocab[word])
            continue
        parts = [symbol[byte] for byte in word.encode()]
        parts[-1] += "</w>"
        while len(parts) > 1:
            best = min(pairwise(parts), key=lambda pair: ranks.get(pair, len(ranks)))
            if best not in ranks:
                break
            merged: list[str] = []
            for part in parts:
                if merged and (merged[-1], part) == best:
                    merged[-1] += part
                else:
                    merged.append(part)
            parts = merged
        ids += [vocab[part] for part in parts]
    return ids


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_equals_the_original_rules_on_any_text(text: str) -> None:
    # What is a letter depends on the Unicode version, which only characters newer than Python's own table can show.
    assume(all(unicodedata.category(character) != "Cn" for character in clean(text)))
    assert shared_openai().encode(text) == original_ids(text, *ranks_and_vocab())


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["'S", "'\u017f", "'LL", "<|endoftext|>", "<|StartOfText|>", "!", " ", "&amp;", "x"])))
def test_equals_the_original_rules_on_awkward_text(parts: list[str]) -> None:
    assert shared_openai().encode("".join(parts)) == original_ids("".join(parts), *ranks_and_vocab())


def test_save_and_read_back(small: CLIPTokenizer, tmp_path: Path) -> None:
    small.save(tmp_path)
    again = CLIPTokenizer.from_folder(tmp_path)
    assert (again.vocab_size, again.max_length, again.pad_token_id) == (small.vocab_size, 48, small.eos_token_id)
    assert all(again.encode(caption) == small.encode(caption) for caption in CORPUS)


def test_trained_layout_is_that_of_clip(small: CLIPTokenizer, tmp_path: Path) -> None:
    small.save(tmp_path)
    vocab = json.loads((tmp_path / "vocab.json").read_text())
    symbols = list(vocab)
    assert list(vocab.values()) == list(range(small.vocab_size))
    assert symbols[:256] == byte_symbols() and symbols[256:512] == [s + "</w>" for s in byte_symbols()]
    assert symbols[-2:] == ["<|startoftext|>", "<|endoftext|>"]
    merges = (tmp_path / "merges.txt").read_text().splitlines()
    assert merges[0].startswith("#version")
    assert symbols[512:-2] == list(dict.fromkeys(line.replace(" ", "") for line in merges[1:]))


@pytest.mark.parametrize("language", CAPTIONS)
def test_transformers_opens_a_trained_folder_and_agrees(small: CLIPTokenizer, tmp_path: Path, language: str) -> None:
    small.save(tmp_path)
    theirs = TransformersTokenizer.from_pretrained(tmp_path)
    assert theirs.model_max_length == 48
    for caption in CAPTIONS[language]:
        row = theirs(clean(caption), padding="max_length", truncation=True)["input_ids"]
        assert small([caption])[0].tolist() == row


def test_opens_what_transformers_writes(small: CLIPTokenizer, tmp_path: Path) -> None:
    small.save(tmp_path / "ours")
    TransformersTokenizer.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    theirs = CLIPTokenizer.from_folder(tmp_path / "theirs")
    assert theirs.max_length == 48
    assert all(theirs.encode(caption) == small.encode(caption) for group in CAPTIONS.values() for caption in group)


@pytest.mark.parametrize(
    "model",
    [
        None,
        {"type": "Unigram", "vocab": [["a", 0.0]]},
        {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b c"]},
        {"type": "BPE", "vocab": {"a": 0}, "merges": [[1, 2]]},
        {"type": "BPE", "vocab": {"a": 0}, "merges": 5},
    ],
)
def test_a_tokenizer_of_another_kind_is_refused(tmp_path: Path, model: object) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": model}))
    with pytest.raises(SfumatoError, match=r"tokenizer\.json describes no tokenizer of CLIP's kind"):
        CLIPTokenizer.from_folder(tmp_path)


@pytest.mark.parametrize("language", CAPTIONS)
def test_captions_survive_the_round_trip(small: CLIPTokenizer, language: str) -> None:
    for caption in CAPTIONS[language]:
        text = small.decode(small.encode(caption))
        assert "".join(text.split()) == "".join(clean(caption).split())


def test_every_byte_has_a_symbol(small: CLIPTokenizer) -> None:
    unseen = "Ωმ한글 𓀀 \U0001fae0"
    assert "".join(small.decode(small.encode(unseen)).split()) == "".join(clean(unseen).split())


def test_vocabulary_size_is_kept_or_the_corpus_ran_out() -> None:
    assert CLIPTokenizer.train(CORPUS, 560).vocab_size == 560
    assert CLIPTokenizer.train(["ab ab"], 2000).vocab_size == 515
    with pytest.raises(SfumatoError, match="too small"):
        CLIPTokenizer.train(CORPUS, 514)


def test_threads_share_one_tokenizer(openai: CLIPTokenizer, prompts: list[dict]) -> None:
    with ThreadPoolExecutor(8) as pool:
        for case, ids in zip(prompts * 20, pool.map(openai.encode, [p["prompt"] for p in prompts] * 20), strict=True):
            assert ids == case["ids"]


def test_special_tokens_written_as_records(small: CLIPTokenizer, tmp_path: Path) -> None:
    small.save(tmp_path)
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"pad_token": {"content": "!", "lstrip": False}}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": int(1e30)}))
    tokenizer = CLIPTokenizer.from_folder(tmp_path)
    assert (tokenizer.pad_token_id, tokenizer.max_length) == (0, 77)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.json", None, "vocab.json"),
        ("vocab.json", "[1]", "expected an object"),
        ("vocab.json", "{", "not valid JSON"),
        ("vocab.json", '{"a": 0}', "lacks '<|startoftext|>'"),
        ("vocab.json", '{"<|startoftext|>": "0", "<|endoftext|>": 1}', "a whole number"),
        ("merges.txt", "a b c", "expected two symbols"),
        ("merges.txt", "aa bb", "do not fit"),
    ],
)
def test_broken_folders_are_refused_in_one_line(
    small: CLIPTokenizer, tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    small.save(tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(SfumatoError) as caught:
        CLIPTokenizer.from_folder(tmp_path)
    assert message in str(caught.value) and "\n" not in str(caught.value)
