#!/usr/bin/env python
"""The chapters of docs/learn: run, refresh what they show, or write them as notebooks.

    python tools/notebooks.py write FOLDER [CHAPTER ...]   # each page as a Jupyter notebook
    python tools/notebooks.py check [CHAPTER ...]          # run the code; is what the page shows still true?
    python tools/notebooks.py refresh [CHAPTER ...]        # run the code; put what it shows into the page

A page is the one source. A block of ```python is a cell: what it prints follows it as a block of ```text, and where its
last line is a picture, that follows as an image. A notebook leaves both out, since its reader makes them. Code under a
line `<!-- varies -->` shows something else on every machine: of it only the kind is compared.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import math
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageChops, ImageStat

LEARN = Path(__file__).resolve().parents[1] / "docs" / "learn"
VARIES = "<!-- varies -->"
CELL = re.compile(
    r"(?P<varies><!-- varies -->\n)?```python\n(?P<code>.*?)^```\n"
    r"(?:\n+```text\n(?P<text>.*?)^```\n)?"
    r"(?:\n+!\[(?P<alt>[^\]]*)\]\((?P<file>[^)]+)\)\n)?",
    re.MULTILINE | re.DOTALL,
)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
RELATIVE, ABSOLUTE = 0.05, 0.02  # by which numbers may differ between machines
SHADES = 4.0  # of 255, by which pictures may differ in the mean


@dataclass(frozen=True)
class Cell:
    """A code cell of a page: where it begins and ends there, and what the page shows of it."""

    start: int
    end: int
    code: str
    text: str
    alt: str
    file: str | None
    varies: bool


def chapters(names: list[str]) -> list[Path]:
    """The pages of these names, or all."""
    pages = [LEARN / f"{name}.md" for name in names] or sorted(set(LEARN.glob("*.md")) - {LEARN / "index.md"})
    for page in pages:
        if not page.is_file():
            known = ", ".join(sorted(path.stem for path in LEARN.glob("*.md")))
            sys.exit(f"there is no chapter {page.stem!r}; choose from {known}")
    return pages


def cells(page: str) -> list[Cell]:
    """The code cells of a page, in order."""
    return [
        Cell(
            *found.span(), found["code"], found["text"] or "", found["alt"] or "", found["file"], bool(found["varies"])
        )
        for found in CELL.finditer(page)
    ]


def notebook(page: str) -> dict[str, object]:
    """A page as a notebook (nbformat 4.5)."""
    parts, at = [], 0
    for cell in cells(page):
        parts += [("markdown", page[at : cell.start]), ("code", cell.code)]
        at = cell.end
    parts.append(("markdown", page[at:]))
    return {
        "cells": [_notebook_cell(k, kind, text) for k, (kind, text) in enumerate(parts) if text.strip()],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _notebook_cell(k: int, kind: str, text: str) -> dict[str, object]:
    if kind == "markdown":
        text = re.sub(r"\((\w+)\.md(#[^)]*)?\)", r"(\1.ipynb)", text)
    code = {"execution_count": None, "outputs": []} if kind == "code" else {}
    return {"cell_type": kind, "id": f"cell-{k}", "metadata": {}, "source": text.strip().splitlines(True)} | code


def run(page: str, name: str) -> Iterator[tuple[Cell, str, Image.Image | None]]:
    """Run the cells of a page one after the other, as a notebook does: what each prints, and the picture it ends in."""
    space: dict[str, object] = {"__name__": name}
    for cell in cells(page):
        line = page[: cell.start].count("\n") + 1 + cell.varies
        tree = ast.parse("\n" * line + cell.code, name)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        with redirect_stdout(io.StringIO()) as printed:
            exec(compile(tree, name, "exec"), space)
            value = None if last is None else eval(compile(ast.Expression(last.value), name, "eval"), space)
            if value is not None and not isinstance(value, Image.Image):
                print(value)
        yield cell, printed.getvalue(), value if isinstance(value, Image.Image) else None


def differences(cell: Cell, text: str, picture: Image.Image | None, folder: Path) -> list[str]:
    """How what a cell shows differs from what its page shows of it."""
    found = []
    if bool(text) != bool(cell.text) or not (cell.varies or _same_text(cell.text, text)):
        found.append(f"the page shows\n{cell.text}and the code prints\n{text}")
    if (picture is None) != (cell.file is None):
        found.append(f"the page shows {cell.file or 'no picture'}, the code {'no' if picture is None else 'a'} picture")
    elif picture is not None and cell.file is not None:
        # Both as files: noise, of which WebP keeps little, would differ from itself otherwise.
        with Image.open(folder / cell.file) as kept, Image.open(io.BytesIO(as_file(picture))) as made:
            apart = _apart(kept.convert("RGB"), made.convert("RGB"))
        if apart > SHADES and not (cell.varies and math.isfinite(apart)):
            found.append(f"{cell.file} differs from what the code draws by {apart:.1f} of 255")
    return found


def _same_text(one: str, other: str) -> bool:
    if NUMBER.sub("#", one) != NUMBER.sub("#", other):
        return False
    pairs = zip(NUMBER.findall(one), NUMBER.findall(other), strict=True)
    return all(math.isclose(float(a), float(b), rel_tol=RELATIVE, abs_tol=ABSOLUTE) for a, b in pairs)


def _apart(one: Image.Image, other: Image.Image) -> float:
    if one.size != other.size:
        return math.inf
    return sum(ImageStat.Stat(ImageChops.difference(one, other)).mean) / 3


def as_file(picture: Image.Image) -> bytes:
    """A picture as WebP, without loss where it has few colours, as charts have."""
    file, few = io.BytesIO(), picture.convert("RGB").getcolors(512) is not None
    picture.convert("RGB").save(file, "WEBP", lossless=few, quality=80, method=6)
    return file.getvalue()


def refreshed(cell: Cell, text: str, picture: Image.Image | None, folder: Path) -> str:
    """The cell as a page has it, with what it shows; its picture is written beside the page."""
    if (picture is None) != (cell.file is None):
        where = f"the cell that begins {cell.code.splitlines()[0]!r}"
        sys.exit(f"{where} must show a picture on the page where its last line is one, as ![WHAT](NAME.webp)")
    shown = f"```python\n{cell.code}```\n" + (f"\n```text\n{text}```\n" if text else "")
    if picture is not None and cell.file is not None:
        (folder / cell.file).write_bytes(as_file(picture))
        shown += f"\n![{cell.alt}]({cell.file})\n"
    return (VARIES + "\n" if cell.varies else "") + shown


def offline() -> None:
    """From here on whatever asks for a network fails."""

    def refuse(*_: object) -> None:
        raise OSError("a chapter tried to reach a network; chapters run offline")

    socket.socket.connect = refuse  # type: ignore[method-assign,assignment]


def shown(page: Path, refresh: bool) -> int:
    """Run a page offline, and put what it shows into it or compare: the number of differences, which are printed."""
    offline()
    content, started, at, parts, wrong = page.read_text("utf-8"), time.process_time(), 0, [], 0
    for cell, text, picture in run(content, str(page)):
        if refresh:
            parts += [content[at : cell.start], refreshed(cell, text, picture, page.parent)]
        else:
            for difference in differences(cell, text, picture, page.parent):
                wrong += 1
                print(f"{page.name}: {difference}; tools/notebooks.py refresh puts it right")
        at = cell.end
    if refresh:
        page.write_text("".join(parts) + content[at:], "utf-8")
    print(f"{page.stem}: {time.process_time() - started:.0f} s of one core")
    return wrong


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("what", choices=("write", "check", "refresh"))
    arguments.add_argument("names", nargs="*", help="for write first the folder; then chapters, by default all")
    given = arguments.parse_args()
    if given.what == "write":
        if not given.names:
            arguments.error("write needs a folder")
        folder, *names = given.names
        Path(folder).mkdir(parents=True, exist_ok=True)
        for page in chapters(names):
            content = json.dumps(notebook(page.read_text("utf-8")), indent=1, ensure_ascii=False)
            (Path(folder) / f"{page.stem}.ipynb").write_text(content + "\n", "utf-8")
        return
    pages = chapters(given.names)
    if len(pages) == 1:
        sys.exit(1 if shown(pages[0], given.what == "refresh") else 0)
    # Each in a process of its own: what a chapter sets in torch must not reach the next.
    done = [subprocess.run([sys.executable, __file__, given.what, page.stem]).returncode for page in pages]
    sys.exit(1 if any(done) else 0)


if __name__ == "__main__":
    main()
