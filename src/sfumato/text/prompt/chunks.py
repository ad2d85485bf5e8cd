"""Tokens of a weighted prompt in windows of the text encoder's length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from sfumato.text.prompt.emphasis import Break, Spans

COMMA_REACH = 20  # tokens that move on to the next window so that it begins after a comma


Encode = Callable[[str], list[tuple[int, ...]]]
"""Text to ids, in units that no window divides: a token, or all vectors of an embedding."""


class Token(NamedTuple):
    """A symbol of the tokenizer, or a vector of an embedding, with its weight.

    `together` of the first vector of an embedding is how many there are; those after it have 0, a symbol has 1.
    """

    id: int
    weight: float
    together: int = 1


def tokens(spans: Spans, encode: Encode) -> Iterator[Token | Break]:
    """Every span by itself, so that words of two weights never share a token."""
    for span in spans:
        if isinstance(span, Break):
            yield span
            continue
        for unit in encode(span.text):
            yield from (Token(id, span.weight, 0 if place else len(unit)) for place, id in enumerate(unit))


def windows(spans: Spans, encode: Encode, size: int) -> list[list[Token]]:
    """The tokens in windows of at most `size`; at least one, any may be short.

    A BREAK ends its window. A window that is full does so after its last comma, where that is among its last 20
    tokens: what belongs together stays together. An embedding that does not fit into the rest of a window begins the
    next one (AUTOMATIC1111's rules).
    """
    comma = [id for unit in encode(",") for id in unit]
    found: list[list[Token]] = [[]]
    for token in tokens(spans, encode):
        window = found[-1]
        if isinstance(token, Break):
            found.append([])
            continue
        if len(window) == size:
            after = 0 if [token.id] == comma else _after_comma(window, comma)
            found.append(window[size - after :])
            del window[size - after :]
        if found[-1] and len(found[-1]) + token.together > size:
            found.append([])
        found[-1].append(token)
    return found if len(found) == 1 or found[-1] else found[:-1]


def _after_comma(window: list[Token], comma: list[int]) -> int:
    """Returns how many tokens follow the window's last comma; 0 where it is too far from the end."""
    for count, token in enumerate(reversed(window[-COMMA_REACH:])):
        if [token.id] == comma:
            return count
    return 0
