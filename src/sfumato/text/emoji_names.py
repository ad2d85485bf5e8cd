"""What the 1,580 things of the emoji set are called in each language: the captions that ship (Unicode CLDR)."""

from __future__ import annotations

import lzma
from importlib import resources

from sfumato.errors import unknown

LANGUAGES = ("en", "th", "zh", "id", "uk", "ja")


def names(language: str = "en") -> list[str]:
    """The names in one language, without doubles. Raises SfumatoError for a language that they do not have."""
    if language not in LANGUAGES:
        raise unknown("language", language, LANGUAGES)
    return list(dict.fromkeys(_blocks()[LANGUAGES.index(language)]))


def emoji_names() -> dict[str, str]:
    """The English name of every emoji of the set."""
    blocks = _blocks()
    return dict(zip(blocks[-1], blocks[0], strict=True))


def _blocks() -> list[list[str]]:
    """The names in the order of LANGUAGES, then the emoji themselves, each in the order of the set."""
    packed = (resources.files("sfumato") / "assets" / "names" / "names.txt.xz").read_bytes()
    return [block.splitlines() for block in lzma.decompress(packed).decode().split("\n\n")]
