"""Finding things by the names that people write."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from sfumato.errors import SfumatoError


def find(kind: str, name: object, names: Mapping[str, Iterable[str]]) -> str:
    """The key that `name` spells, or one of whose other names it spells; case, spaces, `-` and `_` do not count.

    Raises SfumatoError, with the list of keys, for a name of none of them. `kind` is the word for what is sought.
    """

    def plain(text: str) -> str:
        return re.sub(r"[\s_-]", "", text.lower()).replace("++", "pp")

    if isinstance(name, str):
        for key, others in names.items():
            if plain(name) in map(plain, (key, *others)):
                return key
    raise SfumatoError(f"unknown {kind} {name!r}; choose one of {', '.join(names)}")
