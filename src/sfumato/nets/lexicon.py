"""The words that name things, as a table: which names and keywords in a prompt speak of which concepts.

A small text tower misreads a name beside words that it never saw. A table does not: it finds the longest known phrases
of a prompt, wherever they stand, and says how much each tells (by the inverse frequency of Spärck Jones 1972). The
reader decides which thing of the picture each phrase belongs to, and adds its own view of the words.

The table is kept as numbers, as all is that a model knows: of each pair of a phrase and a concept 36 bits of the
phrase's hash, the concept's number, and whether the phrase is its name, in digits 0 to 15, which every precision holds.
"""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HASH, DIGITS = 9, 12  # hexadecimal digits of a phrase, and of a whole row
NAME_BIT = 1 << 11
LONGEST = 40  # characters of a phrase
NAMED = 1.5  # how much more a name tells than a keyword


@dataclass(frozen=True, eq=False)
class Found:
    """The P known phrases of a text of L tokens: `tokens` (P, L), 1 where a token belongs to a phrase; `scores` (P, C),
    how much a phrase speaks of each concept, 0 for most; `named` (P,), 1 where a phrase is a name."""

    tokens: Tensor
    scores: Tensor
    named: Tensor

    def with_names(self, tokens: Sequence[Tensor]) -> Found:
        """The same with names of things that no lexicon knows: rows (L,) of their tokens, numbered after all concepts.

        They lie where no phrase does, and each speaks of its thing alone.
        """
        if not tokens:
            return self
        scores = F.pad(self.scores, (0, len(tokens)))
        own = F.pad(NAMED * torch.eye(len(tokens)), (self.scores.shape[1], 0))
        rows = torch.cat([self.tokens, torch.stack(list(tokens))])
        return Found(rows, torch.cat([scores, own]), torch.cat([self.named, torch.ones(len(tokens))]))


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

    def find(self, text: str, lengths: Sequence[int]) -> Found:
        """Returns the known phrases of a text, the longest first, none inside or across another.

        `lengths` says how many bytes of the text, in UTF-8 and without white space, each token stands for (0: none,
        as for a start token).
        """
        text = normalised(text)
        spans = self._longest(text)
        scores, named = torch.zeros(len(spans), self.concepts), torch.zeros(len(spans))
        for row, (_, _, key) in enumerate(spans):
            said = self._table[key]
            tells = 1 - math.log(len(said)) / math.log(max(2, self.concepts))
            for concept, name in said.items():
                scores[row, concept] = tells * (NAMED if name else 1.0)
            named[row] = any(said.values())
        return Found(_covered(text, [span[:2] for span in spans], lengths), scores, named)

    def _longest(self, text: str) -> list[tuple[int, int, int]]:
        """The known phrases of a text: first and last character, and key."""
        taken, spans = [False] * len(text), []
        for start, end, key in sorted(self._found(text), key=lambda entry: entry[0] - entry[1]):
            if not any(taken[start:end]):
                taken[start:end] = [True] * (end - start)
                spans.append((start, end, key))
        return spans

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
