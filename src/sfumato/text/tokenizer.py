"""CLIP's tokenizer: lower-cased byte-level BPE whose last symbol of every word carries `</w>`.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (2021), section 2.4. The ids
are those of OpenAI's code, from the repair of broken text to the order of merges; `tokenizers` does the work.
"""

from __future__ import annotations

import gzip
import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from sfumato.errors import SfumatoError
from sfumato.files import MAX_TEXT_FILE, atomic_write, read_bytes
from sfumato.text.emoji import spelled_out

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
END_OF_WORD = "</w>"
CLIP_LENGTH = 77
EMOJI = "sfumato_emoji"  # in tokenizer_config.json: whether the tower knows emoji
FILES = ("vocab.json", "merges.txt", "special_tokens_map.json", "tokenizer_config.json", "tokenizer.json")

# The original pattern ignores case. After lower-casing only the long s, U+017F, still makes a difference.
_WORD = re.escape(BOS) + "|" + re.escape(EOS) + r"|'[s\x{17F}]|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"

_PLAIN = re.compile(r"[\n -%'-~]*")  # ASCII without entities and control characters: nothing to repair


def clean(text: str) -> str:
    """Repair mojibake, resolve HTML entities (twice, as the original), collapse white space, lower-case."""
    if not _PLAIN.fullmatch(text):
        import ftfy  # slow to import, and most prompts do without

        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return re.sub(r"\s+", " ", text.strip()).strip().lower()


def byte_symbols() -> list[str]:
    """The 256 printable stand-ins for bytes, in the order in which CLIP's vocabulary lists them.

    Printable Latin-1 bytes stand for themselves and come first; the others are shifted past U+0100.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(256 - len(printable))]


class CLIPTokenizer:
    """Text to ids and back. Immutable, so one instance serves any number of threads.

    `vocab` maps symbols to ids, `merges` lists pairs by rank; `bos`, `eos` and `pad` are symbols of the vocabulary.
    `max_length` counts bos and eos. Raises SfumatoError if the parts do not fit together.
    """

    def __init__(
        self,
        vocab: Mapping[str, int],
        merges: Sequence[tuple[str, str]],
        *,
        bos: str = BOS,
        eos: str = EOS,
        pad: str = EOS,
        max_length: int = CLIP_LENGTH,
        emoji: bool = True,
    ) -> None:
        """Without `emoji` the text tower knows none, and they are read by their names."""
        if not all(isinstance(index, int) and index >= 0 for index in vocab.values()):
            raise SfumatoError("the tokenizer's vocabulary must give every symbol an id, a whole number from 0")
        missing = [token for token in (bos, eos, pad) if token not in vocab]
        if missing:
            raise SfumatoError(f"the tokenizer's vocabulary lacks {missing[0]!r}; take all its files from one model")
        try:
            model = models.BPE(vocab=dict(vocab), merges=list(merges), end_of_word_suffix=END_OF_WORD, unk_token=eos)
        except Exception as error:  # `tokenizers` raises bare Exception
            raise SfumatoError(f"merges and vocabulary of the tokenizer do not fit together: {error}") from error
        self._merges = list(merges)
        self._special = {token: vocab[token] for token in (bos, eos)}
        self._bos, self._eos, self._pad = bos, eos, pad
        self._backend = Tokenizer(model)
        self._backend.pre_tokenizer = _pre_tokenizer()
        self._backend.decoder = decoders.ByteLevel()
        self.max_length = max_length
        self.emoji = emoji
        self.vocab_size = max(vocab.values()) + 1
        self.bos_token_id, self.eos_token_id, self.pad_token_id = vocab[bos], vocab[eos], vocab[pad]

    @classmethod
    def openai(cls) -> CLIPTokenizer:
        """The 49,408 symbols of CLIP ViT-L/14, which ship with the package. Pads with eos, as Stable Diffusion 1.x."""
        packed = resources.files("sfumato").joinpath("assets/clip/merges.txt.gz").read_bytes()
        merges = _parse_merges(gzip.decompress(packed).decode())
        return cls(_clip_layout(merges), merges)

    @classmethod
    def from_folder(cls, folder: str | Path) -> CLIPTokenizer:
        """Read the `tokenizer/` folder of a diffusers or transformers model.

        Needs `vocab.json` and `merges.txt`, or the `tokenizer.json` that transformers 5 writes in their place;
        `special_tokens_map.json` and `tokenizer_config.json` are used if they are there. Raises SfumatoError for
        missing or broken files.
        """
        folder = Path(folder)
        files = {name: read_bytes(path, MAX_TEXT_FILE) for name in FILES if (path := folder / name).exists()}
        return cls.from_files(files, folder)

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], where: Path) -> CLIPTokenizer:
        """The same of the contents of those files; `where` is named in errors."""
        if "tokenizer.json" in files and "vocab.json" not in files:
            vocab, merges = _parse_fast(files, where)
        else:
            vocab = _read_json(files, "vocab.json", where)
            merges = _parse_merges(_read_text(files, "merges.txt", where))
        settings: dict[str, object] = {}
        for name in ("special_tokens_map.json", "tokenizer_config.json"):
            if name in files:
                settings |= _read_json(files, name, where)
        eos = _token(settings.get("eos_token"), EOS)
        length = settings.get("model_max_length")
        return cls(
            vocab,
            merges,
            bos=_token(settings.get("bos_token"), BOS),
            eos=eos,
            pad=_token(settings.get("pad_token"), eos),
            # transformers writes 1e30 where no limit was set.
            max_length=length if isinstance(length, int) and 2 < length < 1_000_000 else CLIP_LENGTH,
            emoji=settings.get(EMOJI) is not False,
        )

    @classmethod
    def train(cls, corpus: Iterable[str], vocab_size: int, *, max_length: int = CLIP_LENGTH) -> CLIPTokenizer:
        """Learn merges from `corpus` and lay the vocabulary out as CLIP's: bytes, bytes with `</w>`, merges, bos, eos.

        The result has `vocab_size` symbols, or fewer if the corpus has no more pairs to merge. Every byte has a symbol,
        so any text encodes. Raises SfumatoError if `vocab_size` leaves no room for a merge.
        """
        fixed = 2 * 256 + 2
        if vocab_size <= fixed:
            raise SfumatoError(f"a vocabulary of {vocab_size} is too small; bytes and marks alone take {fixed}")
        learner = Tokenizer(models.BPE(end_of_word_suffix=END_OF_WORD))
        learner.pre_tokenizer = _pre_tokenizer()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            initial_alphabet=byte_symbols(),
            end_of_word_suffix=END_OF_WORD,
            show_progress=False,
        )
        learner.train_from_iterator((clean(text) for text in corpus), trainer)
        learned = json.loads(learner.to_str())["model"]["merges"]
        # The trainer lists only those `x</w>` it met, so it may have learnt more merges than there is room for.
        merges = [(left, right) for left, right in islice(learned, vocab_size - fixed)]
        return cls(_clip_layout(merges), merges, max_length=max_length)

    def files(self, pad_token_id: int | None = None) -> dict[str, bytes]:
        """`vocab.json`, `merges.txt` and the two settings files, as `transformers.CLIPTokenizer` reads them.

        `pad_token_id` names another symbol to pad with than the tokenizer's own.
        """
        vocab = sorted(self._backend.get_vocab().items(), key=lambda item: item[1])
        pad = self._pad if pad_token_id is None else self._backend.id_to_token(pad_token_id)
        if pad is None:
            raise SfumatoError(f"the tokenizer has no symbol {pad_token_id} to pad with; take it from the same model")
        tokens = {"bos_token": self._bos, "eos_token": self._eos, "pad_token": pad, "unk_token": self._eos}
        config: dict[str, object] = tokens | {"model_max_length": self.max_length, "tokenizer_class": "CLIPTokenizer"}
        if not self.emoji:
            config[EMOJI] = False
        merges = "#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in self._merges)
        contents = {
            "vocab.json": json.dumps(dict(vocab), ensure_ascii=False),
            "merges.txt": merges,
            "special_tokens_map.json": json.dumps(tokens, indent=2) + "\n",
            "tokenizer_config.json": json.dumps(config, indent=2) + "\n",
        }
        return {name: content.encode() for name, content in contents.items()}

    def save(self, folder: str | Path) -> None:
        """Write `files()` to a folder. Raises SfumatoError when that fails."""
        for name, content in self.files().items():
            with atomic_write(Path(folder) / name) as file:
                file.write(content)

    def encode(self, text: str) -> list[int]:
        """Ids of `text` without bos and eos, however many there are."""
        text = clean(text if self.emoji else spelled_out(text))
        if not any(token in text for token in self._special):
            return self._backend.encode(text, add_special_tokens=False).ids
        # bos and eos typed by the user count only where the word pattern sees them: not in "!<|endoftext|>".
        ids: list[int] = []
        for word, _ in self._backend.pre_tokenizer.pre_tokenize_str(text):
            if word in self._special:
                ids.append(self._special[word])
            else:
                ids.extend(token.id for token in self._backend.model.tokenize(word))
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`, one space between words; bytes that are not UTF-8 become U+FFFD."""
        return self._backend.decode(list(ids), skip_special_tokens=False).replace(END_OF_WORD, " ").rstrip(" ")

    def ends_word(self, id: int) -> bool:
        """Whether a word ends with this id."""
        return (self._backend.id_to_token(id) or "").endswith(END_OF_WORD)

    def byte_lengths(self, ids: Sequence[int]) -> list[int]:
        """Returns how many bytes of text, in UTF-8 and without white space, each id stands for; 0 for bos and eos."""
        special = self._special.values()
        symbols = ("" if id in special else self._backend.id_to_token(id) or "" for id in ids)
        return [len(symbol.removesuffix(END_OF_WORD)) for symbol in symbols]

    def pad(self, ids: Sequence[int], length: int | None = None, pad_id: int | None = None) -> list[int]:
        """bos, the first `length - 2` ids, eos, then `pad_id` up to `length` (defaults: the tokenizer's own)."""
        length = self.max_length if length is None else length
        pad_id = self.pad_token_id if pad_id is None else pad_id
        row = [self.bos_token_id, *ids[: length - 2], self.eos_token_id]
        return row + [pad_id] * (length - len(row))

    def __call__(self, texts: Sequence[str], length: int | None = None, pad_id: int | None = None) -> Tensor:
        """Rows of `pad(encode(text))`: int64 (B, length)."""
        rows = [self.pad(self.encode(text), length, pad_id) for text in texts]
        return torch.tensor(rows, dtype=torch.int64).reshape(len(rows), self.max_length if length is None else length)

    def batch(self, texts: Sequence[str]) -> Tensor:
        """Rows like those of a call, int64 (B, L), L no more than the longest text needs.

        A causal tower reads them alike: nothing before the end token changes.
        """
        ids = self(texts)
        ends = (ids == self.eos_token_id).int().argmax(1)
        return ids[:, : int(ends.max()) + 1]


def _pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORD), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _clip_layout(merges: Sequence[tuple[str, str]]) -> dict[str, int]:
    symbols = byte_symbols()
    merged = (left + right for left, right in merges)
    order = [*symbols, *(symbol + END_OF_WORD for symbol in symbols), *merged, BOS, EOS]
    # Two merges may spell the same symbol; it has one id.
    return {symbol: index for index, symbol in enumerate(dict.fromkeys(order))}


def _parse_merges(text: str) -> list[tuple[str, str]]:
    lines = [line.split(" ") for line in text.split("\n") if line and not line.startswith("#version")]
    broken = next((line for line in lines if len(line) != 2), None)
    if broken is not None:
        raise SfumatoError(f"merges.txt has the line {' '.join(broken)!r}; expected two symbols with a space between")
    return [(left, right) for left, right in lines]


def _parse_fast(files: Mapping[str, bytes], where: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    model = _read_json(files, "tokenizer.json", where).get("model")
    match model:
        case {"type": "BPE", "vocab": dict(vocab), "merges": list(merges)}:
            pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
            if all(isinstance(pair, list) and [type(symbol) for symbol in pair] == [str, str] for pair in pairs):
                return vocab, [(left, right) for left, right in pairs]
    raise SfumatoError(
        f"{where}/tokenizer.json describes no tokenizer of CLIP's kind (BPE); take the tokenizer of the same model"
    )


def _read_text(files: Mapping[str, bytes], name: str, where: Path) -> str:
    try:
        return files[name].decode()
    except (LookupError, UnicodeDecodeError) as error:
        why = "it is not there" if name not in files else str(error)
        raise SfumatoError(f"cannot read the tokenizer's {where}/{name}: {why}; fetch the folder again") from error


def _read_json(files: Mapping[str, bytes], name: str, where: Path) -> dict:
    try:
        content = json.loads(_read_text(files, name, where))
    except (ValueError, RecursionError) as error:
        raise SfumatoError(f"{where}/{name} is not valid JSON: {error}; fetch the folder again") from error
    if not isinstance(content, dict):
        raise SfumatoError(f"{where}/{name} holds a JSON {type(content).__name__}; expected an object")
    return content


def _token(value: object, default: str) -> str:
    """A special token is written either as its text or as a record of an `AddedToken`."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else default
