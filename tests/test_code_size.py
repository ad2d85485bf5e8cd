"""How long functions may be, and that nothing is written twice."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOST_LINES = 80  # of a function
RUN = 6  # equal lines one after the other that are a pair
# Pairs that still stand, as the files that share lines. They may only leave this list.
PAIRS: set[frozenset[str]] = set()


@cache
def sources() -> dict[str, str]:
    """The Python files of the repository, but for tests."""
    found = (path for folder in ("src", "bench", "tools") for path in sorted((ROOT / folder).rglob("*.py")))
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in found}


def long_functions(text: str) -> Iterator[tuple[str, int]]:
    """The name of each function that is too long, and its lines."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MOST_LINES:
                yield node.name, lines


def lines_of_code(text: str) -> list[str]:
    """The lines without indentation; imports, comments and empty lines are left out."""
    imports = {
        number
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1))
    return [line for number, line in lines if line and number not in imports and not line.startswith("#")]


def pairs(texts: dict[str, str]) -> dict[frozenset[str], str]:
    """The files that share a run of equal lines (one file, if it shares it with itself), and the run's first line."""
    places: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, text in texts.items():
        lines = lines_of_code(text)
        for start in range(len(lines) - RUN + 1):
            places[tuple(lines[start : start + RUN])].append(name)
    return {frozenset(names): run[0] for run, names in places.items() if len(names) > 1}


def test_no_function_is_too_long() -> None:
    found = {
        f"{name}: {function}": lines for name, text in sources().items() for function, lines in long_functions(text)
    }
    assert not found, f"these functions have more than {MOST_LINES} lines; divide them"


def test_nothing_is_written_twice() -> None:
    found = pairs(sources())
    assert not {names: line for names, line in found.items() if names not in PAIRS}, (
        f"these files share {RUN} or more equal lines; write them once"
    )
    assert not PAIRS - set(found), "these pairs are gone; take them out of PAIRS"


@pytest.mark.parametrize(("body", "found"), [(MOST_LINES - 1, []), (MOST_LINES, [("f", MOST_LINES + 1)])])
def test_long_functions_are_found(body: int, found: list[tuple[str, int]]) -> None:
    assert list(long_functions("def f():\n" + "    x = 1\n" * body)) == found


def test_equal_lines_are_found_wherever_they_are_indented() -> None:
    run = [f"x{k} = {k}" for k in range(RUN)]
    once, twice = "\n".join(run), "if True:\n" + "\n\n".join(f"    {line}" for line in run)
    assert pairs({"a": once, "b": twice}) == {frozenset("ab"): "x0 = 0"}
    assert pairs({"a": f"{once}\ny = 1\n{once}"}) == {frozenset("a"): "x0 = 0"}
    assert not pairs({"a": once, "b": "\n".join(run[:-1])})
