"""Write what is said of options elsewhere, from their tables: `settings/keywords.pyi` and docs/api/options.md.

The first tells type checkers the options that Python's functions take, the second people.

.venv/bin/python tools/keywords.py
"""

from __future__ import annotations

from pathlib import Path

import sfumato.settings.table
from sfumato.settings.option import Option, options_in

STUB = Path(sfumato.settings.table.__file__).with_name("keywords.pyi")
PAGE = Path(__file__).parents[1] / "docs" / "api" / "options.md"
HEAD = '''# Written by tools/keywords.py from the tables of this folder; change those, and run it.
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from sfumato.diffusion.options import Value
from sfumato.settings.control import Control
from sfumato.settings.image_prompt import ImagePrompt

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


PAGE_HEAD = """<!-- Written by tools/keywords.py from the tables in src/sfumato/settings; change those, and run it. -->

# Options of a picture

Every task takes them: as keywords in Python, as options on the command line, and as fields in a picture's settings,
from which `sfumato replay` reads them. Width and height are `--size` on the command line. What samplers and schedules
have besides is listed by `sfumato samplers`.
"""


def page() -> str:
    """The text of the page: a table for each group."""
    return PAGE_HEAD + "".join(_table(group) for group in sfumato.settings.table.GROUPS)


def _table(group: type) -> str:
    title = (group.__doc__ or "").partition("\n")[0].partition(". ")[0].partition(";")[0].rstrip(".:")
    rows = [_row(one) for one in options_in(group).values()]
    head = "| in Python | what it is | on the command line | in a picture |\n|---|---|---|---|\n"
    return f"\n## {title}\n\n{head}" + "".join(rows)


def _row(one: Option) -> str:
    words = f"{one.help} {one.default_text()}".split()
    what = " ".join(f"`{word}`" if "__" in word else word for word in words)
    flags = ", ".join(f"`{flag}`" for flag in one.flags)
    cells = (f"`{one.name}`", what, flags, one.infotext or "")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    STUB.write_text(stub(), encoding="utf-8")
