"""The words that name things, as a table: which names and keywords in a prompt speak of which concepts.

A small text tower misreads a name beside words that it never saw. A table does not: it finds the longest known phrases
of a prompt, wherever they stand, and says how much each tells (by the inverse frequency of Spärck Jones 1972). The
reader decides which thing of the picture each phrase belongs to, and adds its own view of the words. Words in Latin
letters are compared without the s of a plural, and those in Cyrillic letters, which are declined, by their stems.

Colours, numbers, sizes, poses, places and styles are said in few words, too. The table knows these as values: "tiny"
speaks of the size "small". Values are numbered after all concepts.

The table is kept as numbers, as all is that a model knows: of each pair of a phrase and a concept or a value 36 bits of
the phrase's hash, the number, and whether the phrase is its name, in digits 0 to 15, which every precision holds.
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HASH, DIGITS = 9, 12  # hexadecimal digits of a phrase, and of a whole row
NAME_BIT = 1 << 11
LONGEST = 40  # characters of a phrase
NAMED = 1.5  # how much more a name tells than a keyword
CHECKSUM_BITS = 32
NOTHING = NAME_BIT - 1  # the number of no concept

# Ukrainian endings of cases and numbers, and a vowel that comes and goes before the last consonant: "кіт", "кота".
_LONG_ENDINGS = re.compile(
    "(?<=...)(?:ього|ьому|ими|іми|ами|ями|ого|ому|ові|еві|єві|ьої|ьою|их|іх|ах|ях|им|ім|ам|ям|ом|ем|єм|ів|їв|ей|ою|ею|єю"
    "|ої|ій|ий|ьо)$"
)
_ENDINGS = re.compile("(?<=..)[аеєиіїоуюяьй]$")
_APOSTROPHES = "'\u02bc\u2019"
# English plurals: "foxes", "bees", but not "glass", "bus" and "iris".
_PLURAL = re.compile("(?:(?<=ch)es|(?<=sh)es|(?<=x)es|(?<=ss)es|(?<=..[^iosu])s)$")
_LOOSE_VOWEL = re.compile("[еоі]([бвгґджзйклмнпрстфхцчшщ])$")


@dataclass(frozen=True, eq=False)
class Found:
    """The P known phrases of a text of L tokens, from the first to the last: `tokens` (P, L), 1 where a token belongs
    to a phrase; `scores` (P, C), how much a phrase speaks of each concept, 0 for most; `named` (P,), 1 where a phrase
    is a name; `values` (P, V), how much it speaks of each value."""

    tokens: Tensor
    scores: Tensor
    named: Tensor
    values: Tensor

    def with_names(self, tokens: Sequence[Tensor]) -> Found:
        """The same with names of things that no lexicon knows: rows (L,) of their tokens, numbered after all concepts.

        They lie where no phrase does, and each speaks of its thing alone.
        """
        if not tokens:
            return self
        scores = F.pad(self.scores, (0, len(tokens)))
        own = F.pad(NAMED * torch.eye(len(tokens)), (self.scores.shape[1], 0))
        rows = torch.cat([self.tokens, torch.stack(list(tokens))])
        named = torch.cat([self.named, torch.ones(len(tokens))])
        order = rows.argmax(1).argsort(stable=True)  # by their first tokens
        values = F.pad(self.values, (0, 0, 0, len(tokens)))
        return Found(rows[order], torch.cat([scores, own])[order], named[order], values[order])


class Lexicon(nn.Module):
    """A table of `rows` phrases for `concepts` concepts and `values` values."""

    entries: Tensor

    def __init__(self, rows: int, concepts: int, values: int = 0):
        super().__init__()
        self.concepts, self.values = concepts, values
        self.register_buffer("entries", torch.zeros(rows, DIGITS))

    @classmethod
    def of(cls, phrases: Iterable[tuple[str, int, bool]], concepts: int, values: int = 0) -> Lexicon:
        """Returns a table of phrases, each with the number of a concept or a value and whether it is its name.

        Phrases with the number `NOTHING` name none. They keep others from being found inside of them, which matters
        where words are written together.
        """
        names: dict[tuple[int, int], bool] = {}
        for phrase, concept, name in phrases:
            said = _key(phrase_form(phrase)), concept
            names[said] = names.get(said, False) or name
        rows = [_digits(key, concept, name) for (key, concept), name in names.items()]
        result = cls(len(rows), concepts, values)
        result.entries.copy_(torch.tensor(rows).view(len(rows), DIGITS))
        return result

    def find(self, text: str, lengths: Sequence[int]) -> Found:
        """Returns the known phrases of a text, the longest first, none inside or across another.

        `lengths` says how many bytes of the text, in UTF-8 and without white space, each token stands for (0: none,
        as for a start token).
        """
        text = normalised(text)
        spans = sorted(span for span in self._longest(text) if self._table[span[2]])
        scores, named = torch.zeros(len(spans), self.concepts), torch.zeros(len(spans))
        values = torch.zeros(len(spans), self.values)
        for row, (_, _, key) in enumerate(spans):
            said = self._table[key]
            things = [concept for concept in said if concept < self.concepts]
            tells = 1 - math.log(max(1, len(things))) / math.log(max(2, self.concepts))
            for number, name in said.items():
                if number < self.concepts:
                    scores[row, number] = tells * (NAMED if name else 1.0)
                else:
                    values[row, number - self.concepts] = 1.0
            named[row] = any(said.values())
        return Found(_covered(text, [span[:2] for span in spans], lengths), scores, named, values)

    def _longest(self, text: str) -> list[tuple[int, int, int]]:
        """The known phrases of a text: first and last character, and key."""
        taken, spans = [False] * len(text), []
        for start, end, key in sorted(self._found(text), key=lambda entry: entry[0] - entry[1]):
            if not any(taken[start:end]):
                taken[start:end] = [True] * (end - start)
                spans.append((start, end, key))
        return spans

    def _found(self, text: str) -> Iterator[tuple[int, int, int]]:
        pieces = _pieces(text)
        encoded = [stem.encode() for _, _, stem in pieces]
        for first, (start, _, stem) in enumerate(pieces):
            if stem == " ":
                continue
            checksum = 0
            for last in range(first, len(pieces)):
                end = pieces[last][1]
                if end - start > LONGEST:
                    break
                checksum = zlib.crc32(encoded[last], checksum)
                if checksum in self._checksums:
                    key = _key("".join(stem for _, _, stem in pieces[first : last + 1]))
                    if key in self._table:
                        yield start, end, key

    @cached_property
    def _table(self) -> dict[int, dict[int, bool]]:
        """By the hash of a phrase: the concepts and values that it speaks of, and whether it names them."""
        table: dict[int, dict[int, bool]] = defaultdict(dict)
        digits = self.entries.round().long().cpu()
        keys = (digits[:, :HASH] * 16 ** torch.arange(HASH - 1, -1, -1)).sum(1).tolist()
        rest = (digits[:, HASH:] * 16 ** torch.arange(DIGITS - HASH - 1, -1, -1)).sum(1).tolist()
        for key, value in zip(keys, rest, strict=True):
            concept, name, said = value % NAME_BIT, value >= NAME_BIT, table[key]
            if concept != NOTHING:
                said[concept] = said.get(concept, False) or name
        return dict(table)

    @cached_property
    def _checksums(self) -> frozenset[int]:
        """The checksums in the hashes, which are made piece by piece and so tell soon that a phrase is unknown."""
        return frozenset(key & (1 << CHECKSUM_BITS) - 1 for key in self._table)


def _covered(text: str, spans: Sequence[tuple[int, int]], lengths: Sequence[int]) -> Tensor:
    """Which tokens lie in which span of characters of a text: (spans, tokens), 0 or 1.

    Texts are compared by their bytes without white space. Where tokens and text have another number of them, since
    tokenizers repair texts in their own ways, places are scaled.
    """
    sizes = [0 if char.isspace() else len(char.encode()) for char in text]
    before = [0, *accumulate(sizes)]  # bytes before each character
    ends = list(accumulate(lengths))
    scale = before[-1] / ends[-1] if ends and ends[-1] else 0.0
    middles = [scale * (end - length / 2) for end, length in zip(ends, lengths, strict=True)]
    covered = torch.zeros(len(spans), len(lengths))
    for row, (start, end) in enumerate(spans):
        for token, middle in enumerate(middles):
            if lengths[token] and before[start] < middle < before[end]:
                covered[row, token] = 1.0
    return covered


def normalised(text: str) -> str:
    """A text as phrases are compared: one form of every character, without case, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def phrase_form(phrase: str) -> str:
    """Returns a phrase as the table compares it: normalised, Cyrillic words by their stems."""
    return "".join(stem for _, _, stem in _pieces(normalised(phrase)))


def _pieces(text: str) -> list[tuple[int, int, str]]:
    """The words of a normalised text, and each other character: its first and last character, and its stem."""
    edges = [k for k in range(len(text) + 1) if is_edge(text, k)]
    return [(start, end, _stem(text[start:end])) for start, end in pairwise(edges)]


@lru_cache(maxsize=1 << 16)
def _stem(word: str) -> str:
    if not _cyrillic(word[0]):
        return _PLURAL.sub("", word) if word.endswith("s") and word.isascii() else word
    word = re.sub(f"[{_APOSTROPHES}]", "'", word)
    stem, found = _LONG_ENDINGS.subn("", word)
    stem = stem if found else _ENDINGS.sub("", word)
    return _LOOSE_VOWEL.sub(r"\1", stem) if len(stem) > 2 else stem


def _key(form: str) -> int:
    """Returns the 36 bits of a phrase in its form."""
    encoded = form.encode()
    return hashlib.blake2b(encoded, digest_size=1).digest()[0] >> 4 << CHECKSUM_BITS | zlib.crc32(encoded)


def _digits(key: int, concept: int, name: bool) -> list[int]:
    value = key << 12 | (NAME_BIT if name else 0) | concept
    return [value >> 4 * k & 15 for k in range(DIGITS - 1, -1, -1)]


def is_edge(text: str, k: int) -> bool:
    """Returns whether a phrase may begin or end before character k, which must not lie inside a word."""
    if k in (0, len(text)):
        return True
    return not (_in_word(text, k - 1) and _in_word(text, k))


def _in_word(text: str, k: int) -> bool:
    """A letter or digit of a script that writes words apart, such as Latin and Cyrillic; "п'ять" is one word."""
    char = text[k]
    if char in _APOSTROPHES:
        return 0 < k < len(text) - 1 and _cyrillic(text[k - 1]) and _cyrillic(text[k + 1])
    return char.isalnum() and ord(char) < 0x0E00


def _cyrillic(char: str) -> bool:
    return "\u0400" <= char <= "\u04ff"
