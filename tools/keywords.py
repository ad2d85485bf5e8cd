"""Write `settings/keywords.pyi`, which tells type checkers the options that Python's functions take, from the table.

.venv/bin/python tools/keywords.py
"""

from __future__ import annotations

from pathlib import Path

import sfumato.settings.table
from sfumato.settings.option import Option

STUB = Path(sfumato.settings.table.__file__).with_name("keywords.pyi")
HEAD = '''# Written by tools/keywords.py from the tables of this folder; change those, and run it.
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from sfumato.diffusion.options import Value

class Options(TypedDict, total=False):
    """What a user may say about a picture, whatever the task; None, or nothing, is the default."""

'''


def stub() -> str:
    """The text of the file."""
    return HEAD + "".join(_lines(one) for one in sfumato.settings.table.OPTIONS.values())


def _lines(one: Option) -> str:
    lines, line = [], "    #"
    for word in f"{one.help} {one.default_text()}".split():
        if len(line) + len(word) > 100:
            lines.append(line)
            line = "    #"
        line += f" {word}"
    return "\n".join([*lines, line, f"    {one.name}: {one.kind.hint} | None\n"])


if __name__ == "__main__":
    STUB.write_text(stub(), encoding="utf-8")
