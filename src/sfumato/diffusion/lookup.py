"""Finding things by the names that people write."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from sfumato.errors import unknown


def plain(text: str) -> str:
    """What counts of a name: not its case, nor blanks, `-` and `_`; "++" is "pp"."""
    return re.sub(r"[\s_-]", "", text.lower()).replace("++", "pp")


def key_of(name: object, names: Mapping[str, Iterable[str]]) -> str | None:
    """The key that `name` spells, or one of whose other names it spells (see `plain`); None if there is none."""
    if isinstance(name, str):
        wanted = plain(name)
        for key, others in names.items():
            if any(wanted == plain(one) for one in (key, *others)):
                return key
    return None


def find(kind: str, name: object, names: Mapping[str, Iterable[str]]) -> str:
    """As `key_of`, but raises SfumatoError, with the nearest and a list of the keys, for a name of none of them.

    `kind` is the word for what is sought.
    """
    key = key_of(name, names)
    if key is None:
        raise unknown(kind, name, names)
    return key
