"""Lists of words in Python code."""

from __future__ import annotations


def word_list(text: str, separator: str | None = None) -> frozenset[str]:
    """Returns the words of a text, separated by spaces or by `separator`."""
    return frozenset(" ".join(word.split()) for word in text.split(separator))
