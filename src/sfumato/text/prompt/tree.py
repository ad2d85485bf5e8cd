"""A prompt as a tree of what changes over the steps.

Brackets that weigh words are part of the text; `emphasis` reads them in what a step says. `str` of a node is its text,
so that parsing it gives the same tree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)")
LARGEST = 1000.0  # weight or step; what is larger would only overflow


@dataclass(frozen=True)
class Note:
    """A remark on a text from `start` to `end`. It never keeps a picture from being drawn."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Text:
    """Words as they are written, with the brackets that weigh them."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Edit:
    """`[before:after:when]`: so many steps, or with `share` that share of them, read `before`."""

    before: Nodes
    after: Nodes
    when: float
    share: bool = False

    def __str__(self) -> str:
        number = _number(self.when)
        point = ".0" if self.share and "." not in number else ""
        return f"[{show(self.before)}:{show(self.after)}:{number}{point}]"


@dataclass(frozen=True)
class Alternate:
    """`[one|another]`: every step reads the next option."""

    options: tuple[Nodes, ...]

    def __str__(self) -> str:
        return f"[{'|'.join(map(show, self.options))}]"


@dataclass(frozen=True)
class Adapter:
    """`<lora:name:0.8>`, `<hypernet:name:1>` or `embedding:name`: something that the model has to be given."""

    kind: Literal["lora", "lyco", "hypernet", "embedding"]
    name: str
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.kind == "embedding":
            return f"embedding:{self.name}"
        return f"<{':'.join((self.kind, self.name, *self.options))}>"

    @property
    def text_weight(self) -> float:
        """Returns how strongly the text encoder is adapted: the first number, or `te=`."""
        return self._weight("te", 0, 1.0)

    @property
    def network_weight(self) -> float:
        """Returns how strongly the denoiser is adapted: the second number, or `unet=`; else as the text encoder."""
        return self._weight("unet", 1, self.text_weight)

    def _weight(self, name: str, place: int, default: float) -> float:
        named = dict(option.split("=", 1) for option in self.options if "=" in option)
        listed = [option for option in self.options if "=" not in option]
        text = named.get(name) or (listed[place] if place < len(listed) else "")
        return float(text) if text else default


Node = Text | Edit | Alternate | Adapter
Nodes = tuple[Node, ...]
CLOSING = {"(": ")", "[": "]"}


@dataclass(frozen=True)
class Branch:
    """One of the prompts that `AND` joins, and the weight at its end as it is written, such as " :0.5"."""

    nodes: Nodes
    written: str = ""

    def __str__(self) -> str:
        return show(self.nodes) + self.written

    @property
    def weight(self) -> float:
        """Returns how much it counts beside the others."""
        return within(float(self.written.strip(" \t\n:"))) if self.written else 1.0


@dataclass(frozen=True)
class Prompt:
    """A whole prompt. The notes say what a reader may not expect, at places in the text that was parsed."""

    branches: tuple[Branch, ...]
    notes: tuple[Note, ...] = field(default=(), compare=False)

    def __str__(self) -> str:
        return " AND".join(map(str, self.branches))

    @property
    def drawn(self) -> tuple[Branch, ...]:
        """The branches as they are drawn: a weight that has nothing beside it, as in "a clock at 12:30", is words."""
        if len(self.branches) > 1:
            return self.branches
        (alone,) = self.branches
        return (Branch((*alone.nodes, Text(alone.written))),)

    @property
    def adapters(self) -> tuple[Adapter, ...]:
        """Everything that the model has to be given, in the order of the prompt, each once."""
        return tuple(dict.fromkeys(each for branch in self.branches for each in _adapters(branch.nodes)))


def show(nodes: Nodes) -> str:
    """The text of several nodes."""
    return "".join(map(str, nodes))


def split_weight(text: str) -> tuple[str, str]:
    """What ends in a weight, as `words : 0.5`, cut before the weight; words alone without the spaces at their end."""
    words, colon, number = text.rpartition(":")
    escaped = (len(words) - len(words.rstrip("\\"))) % 2
    cut = len(words.rstrip()) if colon and not escaped and NUMBER.fullmatch(number.strip()) else len(text)
    return text[:cut].rstrip(), text[cut:].rstrip()


def within(number: float) -> float:
    """The number brought into what a weight may be."""
    return max(-LARGEST, min(LARGEST, number))


def _number(value: float) -> str:
    return format(Decimal(repr(value)).normalize(), "f")  # without an exponent, which weights may not have


def _adapters(nodes: Nodes) -> Iterator[Adapter]:
    for node in nodes:
        match node:
            case Adapter():
                yield node
            case Edit():
                yield from _adapters(node.before + node.after)
            case Alternate():
                yield from _adapters(tuple(each for option in node.options for each in option))
