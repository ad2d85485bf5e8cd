"""Lists of words, as they are written in code."""

from __future__ import annotations


def word_list(text: str, separator: str | None = None) -> frozenset[str]:
    """The words of a text, which stand apart by spaces or by `separator`."""
    return frozenset(" ".join(word.split()) for word in text.split(separator))
