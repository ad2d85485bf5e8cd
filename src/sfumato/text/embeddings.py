"""Vectors that stand for words in a prompt (textual inversion, Gal et al. 2022), and how prompts name them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sfumato.nets.layers import FURTHER
from sfumato.nets.prior import NewThing

# `embedding:name` and `<embedding:name>`, and `<name>`, which says the same where the name is known.
_MARK = re.compile(r"<embedding:(?P<tag>[^<>:]+)(?::[^<>]*)?>|\bembedding:(?P<plain>[\w./-]*\w)|<(?P<bare>[^<>:]+)>")


@dataclass(frozen=True, eq=False)
class Embedding:
    """Vectors that are read where a prompt has the `name`.

    `clip` holds those of each text tower of a model, (n, D) with D the tower's width, in the order of the towers; `t5`
    those of T5 (m, D), None where T5 is to read nothing there. `thing` is what a scene prior draws where the name
    stands, None where its reading of the vectors decides. Two are equal if they were made of equal files.
    """

    name: str
    clip: tuple[Tensor, ...]
    t5: Tensor | None = None
    hash: str = ""
    thing: NewThing | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Embedding) and (self.name, self.hash) == (other.name, other.hash)

    def __hash__(self) -> int:
        return hash((self.name, self.hash))

    @property
    def count(self) -> int:
        """Vectors, each of which takes the place of a token."""
        return len(self.clip[0])


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Text to ids: those of a tokenizer, and from `FURTHER` on those of further vectors, by the names of embeddings.

    `encode` is the tokenizer's. `counts` says how many vectors each name stands for; their ids follow each other.
    """

    encode: Callable[[str], list[int]]
    counts: Mapping[str, int]

    def units(self, text: str) -> list[tuple[int, ...]]:
        """The ids of a text; those of one embedding are together, so that no window divides them.

        A name is found as `embedding:name`, `<embedding:name>`, `<name>`, or by itself, which takes the same tokens
        that it would be as text, the longest name first: AUTOMATIC1111's rule.
        """
        found: list[tuple[int, ...]] = []
        place = 0
        for match in _MARK.finditer(text) if self.counts else ():
            name = known(match["tag"] or match["plain"] or match["bare"], self._ids)
            if name is not None:
                found += self._plain(text[place : match.start()])
                found.append(self._ids[name])
                place = match.end()
        return found + self._plain(text[place:])

    def ids_of(self, name: str) -> tuple[int, ...]:
        """The ids of an embedding's vectors."""
        return self._ids[name]

    def name_of(self, id: int) -> str | None:
        """The name of the embedding that an id is of; None for a token."""
        return next((name for name, ids in self._ids.items() if id in ids), None)

    @cached_property
    def _ids(self) -> dict[str, tuple[int, ...]]:
        """The ids that each name stands for."""
        found, start = {}, FURTHER
        for name, count in self.counts.items():
            found[name] = tuple(range(start, start + count))
            start += count
        return found

    @cached_property
    def _by_tokens(self) -> list[tuple[tuple[int, ...], str]]:
        """The tokens of each name as text, the most first."""
        spelled = [(tuple(self.encode(name)), name) for name in self.counts]
        return sorted((one for one in spelled if one[0]), key=lambda one: -len(one[0]))

    def _plain(self, text: str) -> list[tuple[int, ...]]:
        ids = tuple(self.encode(text))
        return list(self._replaced(ids)) if self.counts else [(id,) for id in ids]

    def _replaced(self, ids: Sequence[int]) -> Iterator[tuple[int, ...]]:
        place = 0
        while place < len(ids):
            for spelled, name in self._by_tokens:
                if ids[place : place + len(spelled)] == spelled:
                    yield self._ids[name]
                    place += len(spelled)
                    break
            else:
                yield (ids[place],)
                place += 1


def known(name: str, names: Mapping[str, object]) -> str | None:
    """The one of `names` that is meant: the same, or the same but for capitals; None where there is none."""
    if name in names:
        return name
    return next((one for one in names if one.lower() == name.strip().lower()), None)


def marked(text: str) -> tuple[list[str], list[str]]:
    """The names that a text marks as embeddings, and those in `<...>`, which may be words as well."""
    found = list(_MARK.finditer(text))
    return [one["tag"] or one["plain"] for one in found if not one["bare"]], [
        one["bare"] for one in found if one["bare"]
    ]


def table(parts: Sequence[Tensor]) -> Tensor | None:
    """The vectors of several embeddings as one table (E, D); None without any."""
    return torch.cat([part.float() for part in parts]) if parts else None
