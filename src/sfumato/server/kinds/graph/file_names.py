"""The beginnings that a graph gives to the names of its pictures' files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sfumato.server.kinds.graph.table import Text, Unfit

LONGEST = 150  # characters of a prefix
_TIMES = {"year": "%Y", "month": "%m", "day": "%d", "hour": "%H", "minute": "%M", "second": "%S"}
_MARK = re.compile(r"%(\w+)%")


@dataclass(frozen=True)
class Prefix(Text):
    """A text such as "animals/cat", which begins the names of files and leads to no place outside of their folder."""

    def checked(self, value: Any) -> str:
        text = super().checked(value).replace("\\", "/")
        parts = text.split("/")
        bad = any(part.strip() in ("", ".", "..") or part.startswith(".") or not part.isprintable() for part in parts)
        if len(text) > LONGEST or bad or ":" in text:
            wrong = "Saving image outside the output folder is not allowed"
            raise Unfit("custom_validation_failed", wrong, f"{text[:80]!r}; give a prefix such as animals/cat")
        return text


def filled(prefix: str, width: int, height: int) -> str:
    """The prefix with its marks filled in: %width%, %height%, and %year%, %month% ... of now."""
    now = datetime.now()
    known = {"width": str(width), "height": str(height), **{name: now.strftime(form) for name, form in _TIMES.items()}}
    return _MARK.sub(lambda found: known.get(found[1], found[0]), prefix)
