"""T5's tokenizer: a unigram language model over pieces of text (Kudo 2018), as SentencePiece trained and stores it.

No vocabulary ships with the package: it comes with the user's model, as `spiece.model` or `tokenizer.json`.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import models

from sfumato.checkpoint.checkpoint import WeightFile
from sfumato.checkpoint.open import read_json
from sfumato.errors import SfumatoError

SPACE = "▁"
EOS, PAD = "</s>", "<pad>"
NORMAL, USER_DEFINED = 1, 4  # kinds of pieces that text can be cut into
UNIGRAM = 1
MAX_FILE = 64 << 20
FILES = ("spiece.model", "tokenizer.json")


@dataclass(frozen=True)
class CharacterMap:
    """Replaces characters by others, the longest match first: SentencePiece's normaliser (mostly Unicode NFKC).

    `units` is a double-array trie (Aoe 1989, in Yata's packing) over UTF-8, whose leaves are offsets into `texts`.
    """

    units: Sequence[int]
    texts: bytes

    @classmethod
    def parse(cls, blob: bytes) -> CharacterMap:
        """Raises ValueError for bytes that are no such map."""
        if not blob:
            return cls((), b"")
        size = int.from_bytes(blob[:4], "little")
        if len(blob) < 4 + size or size % 4:
            raise ValueError("its character map is cut short")
        return cls(struct.unpack(f"<{size // 4}I", blob[4 : 4 + size]), blob[4 + size :])

    def __call__(self, text: str) -> str:
        raw, result, at = text.encode("utf-8", "replace"), [], 0
        while at < len(raw):
            length, found = self._longest(raw, at)
            if length == 0:
                length = next(n for n in range(1, 5) if at + n == len(raw) or raw[at + n] & 0xC0 != 0x80)
                found = raw[at : at + length]
            result.append(found)
            at += length
        return b"".join(result).decode()

    def _longest(self, raw: bytes, start: int) -> tuple[int, bytes]:
        """How many bytes from `start` on are replaced, and by what; (0, b"") for none."""
        best, place = (0, b""), 0
        if not self.units:
            return best
        place ^= _offset(self.units[0])
        for i in range(start, len(raw)):
            place ^= raw[i]
            if place >= len(self.units) or self.units[place] & 0x800000FF != raw[i]:
                break
            unit = self.units[place]
            place ^= _offset(unit)
            if unit & 0x100 and place < len(self.units):
                text = self.units[place] & 0x7FFFFFFF
                best = i + 1 - start, self.texts[text : self.texts.find(0, text)]
        return best


def _offset(unit: int) -> int:
    return unit >> 10 << (unit >> 6 & 8)


class T5Tokenizer:
    """Text to ids. Immutable, so one instance serves any number of threads. `file` is the one that it was read from.

    `pieces` are texts and their log probabilities in the order of their ids; those in `silent` are never found in text.
    Raises SfumatoError when the end, the padding or the unknown piece is missing.
    """

    def __init__(
        self, pieces: Sequence[tuple[str, float]], unknown: int, silent: set[int], normalise: CharacterMap
    ) -> None:
        self.file: Path | None = None
        ids = {piece: i for i, (piece, _) in enumerate(pieces)}
        missing = [name for name in (EOS, PAD) if name not in ids]
        if missing or not 0 <= unknown < len(pieces):
            raise SfumatoError(f"the T5 tokenizer lacks {(missing or ['<unk>'])[0]!r}; take the one of the same model")
        self.eos_token_id, self.pad_token_id, self.vocab_size = ids[EOS], ids[PAD], len(pieces)
        # Normalised text has no plain space, so that nothing matches a piece that begins with one.
        vocabulary = [(f" {piece}" if i in silent else piece, score) for i, (piece, score) in enumerate(pieces)]
        self._model = models.Unigram(vocabulary, unknown, False)
        self._normalise = normalise

    @classmethod
    def from_file(cls, path: str | Path) -> T5Tokenizer:
        """Read a `spiece.model`, a `tokenizer.json`, or a folder with either. Raises SfumatoError for anything else."""
        path = Path(path)
        if path.is_dir():
            found = next((path / name for name in FILES if (path / name).is_file()), None)
            if found is None:
                raise SfumatoError(f"{path} holds no {' and no '.join(FILES)}; give the folder of a T5 tokenizer")
            path = found
        try:
            made = _from_json(read_json(path)) if path.suffix == ".json" else _from_spiece(_bytes_of(path))
        except (ValueError, LookupError, TypeError, AttributeError, struct.error) as error:
            text = f"{path} is no tokenizer of T5's kind (SentencePiece, unigram): {error}; take that of the same model"
            raise SfumatoError(text) from error
        made.file = path
        return made

    def encode(self, text: str) -> list[int]:
        """Ids of `text` and the end's, however many there are."""
        words = re.sub(" +", SPACE, self._normalise(text).strip(" "))
        ids = [token.id for token in self._model.tokenize(SPACE + words)] if words else []
        return [*ids, self.eos_token_id]

    def piece(self, id: int) -> str:
        """What an id stands for."""
        return self._model.id_to_token(id) or ""


def find_t5_tokenizer(model: Path) -> Path | None:
    """The T5 tokenizer that a model brings: in its folder, or beside its file."""
    folder = model if model.is_dir() else model.parent
    places = [folder / "tokenizer_3" / name for name in FILES]
    if not model.is_dir():
        places.append(folder / "spiece.model")
    return next((path for path in places if path.is_file()), None)


def _bytes_of(path: Path) -> bytes:
    file = WeightFile(path)
    try:
        if file.size > MAX_FILE:
            raise ValueError(f"it takes {file.size} bytes")
        return file.read(0, file.size)
    finally:
        file.close()


def _from_json(content: dict[str, Any]) -> T5Tokenizer:
    """A tokenizer as the `tokenizers` library writes it."""
    model, normaliser = content["model"], content.get("normalizer") or {}
    if model["type"] != "Unigram":
        raise ValueError(f"its model is {model['type']}")
    steps = [normaliser, *normaliser.get("normalizers", [])]
    maps = [step["precompiled_charsmap"] for step in steps if step.get("type") == "Precompiled"]
    try:
        blob = base64.b64decode(maps[0] or "", validate=True) if maps else b""
    except binascii.Error as error:
        raise ValueError("its character map cannot be read") from error
    pieces = [(str(piece), float(score)) for piece, score in model["vocab"]]
    silent = {int(token["id"]) for token in content.get("added_tokens", ()) if token.get("special")}
    return T5Tokenizer(pieces, int(model["unk_id"]), silent, CharacterMap.parse(blob))


def _from_spiece(raw: bytes) -> T5Tokenizer:
    """A tokenizer as SentencePiece writes it: a protocol buffer of pieces, training and normaliser."""
    pieces: list[tuple[str, float]] = []
    kinds: list[int] = []
    blob, kind = b"", UNIGRAM
    for number, value in _fields(raw):
        if number == 1:
            piece = dict(_fields(value))
            pieces.append((piece[1].decode(), struct.unpack("<f", piece.get(2, bytes(4)))[0]))
            kinds.append(piece.get(3, NORMAL))
        elif number == 2:
            kind = dict(_fields(value)).get(3, UNIGRAM)
        elif number == 3:
            blob = dict(_fields(value)).get(2, b"")
    if kind != UNIGRAM:
        raise ValueError("its model is no unigram model")
    silent = {i for i, kind in enumerate(kinds) if kind not in (NORMAL, USER_DEFINED)}
    return T5Tokenizer(pieces, kinds.index(2), silent, CharacterMap.parse(blob))


def _fields(raw: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a protocol buffer: (number, whole number or bytes). Raises ValueError for anything else."""
    at = 0
    while at < len(raw):
        tag, at = _varint(raw, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(raw, at)
            yield tag >> 3, value
            continue
        if kind not in (1, 2, 5):
            raise ValueError("it is no protocol buffer")
        size, at = _varint(raw, at) if kind == 2 else (8 if kind == 1 else 4, at)
        if at + size > len(raw):
            raise ValueError("it is cut short")
        yield tag >> 3, raw[at : at + size]
        at += size


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and where the next begins."""
    value = shift = 0
    while at < len(raw) and shift < 64:
        value |= (raw[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if raw[at - 1] < 0x80:
            return value, at
    raise ValueError("it is cut short")
