"""What the 1,580 things of the emoji set are called in each language: the captions that ship (Unicode CLDR)."""

from __future__ import annotations

import lzma
from importlib import resources

from sfumato.data.captions import LANGUAGES
from sfumato.errors import SfumatoError


def names(language: str = "en") -> list[str]:
    """The names in one language, without doubles. Raises SfumatoError for a language that they do not have."""
    if language not in LANGUAGES:
        raise SfumatoError(f"no captions in the language {language!r}; choose from {', '.join(LANGUAGES)}")
    packed = (resources.files("sfumato") / "assets" / "names" / "names.txt.xz").read_bytes()
    blocks = lzma.decompress(packed).decode().split("\n\n")  # in the order of LANGUAGES, a name a line
    return list(dict.fromkeys(blocks[LANGUAGES.index(language)].splitlines()))
