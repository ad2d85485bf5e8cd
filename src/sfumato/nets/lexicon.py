"""The words that name things, as a table: which names and keywords in a prompt speak of which concepts.

A small text tower misreads a name beside words that it never saw. A table does not: it finds the longest known phrases
of a prompt, wherever they stand, and says how much each tells (by the inverse frequency of Spärck Jones 1972). The
reader's own view is added to that, so both count.

The table is kept as numbers, as all is that a model knows: of each pair of a phrase and a concept 36 bits of the
phrase's hash, the concept's number, and whether the phrase is its name, in digits 0 to 15, which every precision holds.
"""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property

import torch
from torch import Tensor, nn

HASH, DIGITS = 9, 12  # hexadecimal digits of a phrase, and of a whole row
NAME_BIT = 1 << 11
LONGEST = 40  # characters of a phrase
NAMED = 1.5  # how much more a name tells than a keyword


class Lexicon(nn.Module):
    """A table of `rows` phrases for `concepts` concepts."""

    entries: Tensor

    def __init__(self, rows: int, concepts: int):
        super().__init__()
        self.concepts = concepts
        self.register_buffer("entries", torch.zeros(rows, DIGITS))

    def fill(self, phrases: Iterable[tuple[str, int, bool]]) -> None:
        """Keep phrases, each with the number of a concept and whether it is its name; as many as there are rows."""
        rows = [_digits(phrase, concept, name) for phrase, concept, name in phrases]
        self.entries.copy_(torch.tensor(rows, dtype=self.entries.dtype).view_as(self.entries))

    def scores(self, text: str) -> Tensor:
        """Returns how strongly the phrases of a text speak for each concept: (C,), 0 for most."""
        result = torch.zeros(self.concepts)
        for key in self._longest(normalised(text)):
            said = self._table[key]
            tells = 1 - math.log(len(said)) / math.log(max(2, self.concepts))
            for concept, name in said.items():
                result[concept] += tells * (NAMED if name else 1.0)
        return result

    def _longest(self, text: str) -> list[int]:
        """The known phrases of a text, longer ones first, none inside or across another."""
        found = sorted(self._found(text), key=lambda entry: entry[0] - entry[1])
        taken, keys = [False] * len(text), []
        for start, end, key in found:
            if not any(taken[start:end]):
                taken[start:end] = [True] * (end - start)
                keys.append(key)
        return keys

    def _found(self, text: str) -> Iterator[tuple[int, int, int]]:
        edges = [k for k in range(len(text) + 1) if _edge(text, k)]
        for place, start in enumerate(edges):
            for end in edges[place + 1 :]:
                if end - start > LONGEST:
                    break
                if (key := _key(text[start:end])) in self._table:
                    yield start, end, key

    @cached_property
    def _table(self) -> dict[int, dict[int, bool]]:
        """By the hash of a phrase: the concepts that it speaks of, and whether it names them."""
        table: dict[int, dict[int, bool]] = defaultdict(dict)
        digits = self.entries.round().long().cpu()
        keys = (digits[:, :HASH] * 16 ** torch.arange(HASH - 1, -1, -1)).sum(1).tolist()
        rest = (digits[:, HASH:] * 16 ** torch.arange(DIGITS - HASH - 1, -1, -1)).sum(1).tolist()
        for key, value in zip(keys, rest, strict=True):
            concept, name = value % NAME_BIT, value >= NAME_BIT
            table[key][concept] = table[key].get(concept, False) or name
        return dict(table)


def normalised(text: str) -> str:
    """A text as phrases are compared: one form of every character, without case, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _key(phrase: str) -> int:
    return int.from_bytes(hashlib.blake2b(phrase.encode(), digest_size=5).digest()) >> 4


def _digits(phrase: str, concept: int, name: bool) -> list[int]:
    value = _key(normalised(phrase)) << 12 | (NAME_BIT if name else 0) | concept
    return [value >> 4 * k & 15 for k in range(DIGITS - 1, -1, -1)]


def _edge(text: str, k: int) -> bool:
    """Returns whether a phrase may begin or end before character k, which must not lie inside a word."""
    if k in (0, len(text)):
        return True
    return not (_spaced(text[k - 1]) and _spaced(text[k]))


def _spaced(char: str) -> bool:
    """A letter or digit of a script that writes words apart, such as Latin and Cyrillic."""
    return char.isalnum() and ord(char) < 0x0E00
