"""The directions between the rooms of the house, read from the imports as they stand; docs/architecture.md draws them.

Imports inside functions and under TYPE_CHECKING count like all others.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import sfumato

ROOT = Path(sfumato.__file__).parent
GROUND = ("spec", "errors", "files", "typed", "seeding", "user_config")
# A room may import from those above its own line of ALLOWED, and nothing else; `__init__` is the package's own file.
ALLOWED = {
    "assets": (),
    "codec": (),
    "nets": ("diffusion",),
    "diffusion": (),
    "checkpoint": (),
    "text": ("checkpoint", "diffusion", "nets"),
    "images": (),
    "runtime": (),
    "families": ("checkpoint", "nets", "text", "diffusion"),
    "adapters": ("families", "checkpoint", "nets", "diffusion", "text"),
    "loading": ("families", "checkpoint", "nets", "text", "diffusion", "adapters", "runtime"),
    "hub": ("adapters", "loading", "families", "checkpoint", "runtime"),
    "settings": ("diffusion", "text"),
    "merging": ("settings", "hub", "loading", "adapters", "families", "checkpoint", "nets"),
    "provenance": ("settings", "diffusion", "text", "images"),
    "pipeline": (
        "settings", "provenance", "adapters", "loading", "text", "diffusion", "nets", "images", "runtime", "families",
        "checkpoint", "hub", "codec",
    ),
    "tasks": (
        "pipeline", "settings", "provenance", "loading", "text", "diffusion", "nets", "images", "runtime", "checkpoint",
        "hub", "codec", "families",
    ),
    "api": (
        "tasks", "pipeline", "settings", "provenance", "images", "loading", "diffusion", "text", "runtime", "hub",
        "families",
    ),
    "data": ("nets", "images", "text", "diffusion"),
    "train": (
        "api", "pipeline", "loading", "data", "diffusion", "nets", "settings", "images", "runtime", "text",
        "checkpoint", "adapters", "families", "hub",
    ),
    "evaluate": (
        "api", "tasks", "pipeline", "settings", "data", "diffusion", "nets", "images", "loading", "runtime", "text",
        "checkpoint", "hub", "families",
    ),
    "lineage": ("nets", "images", "checkpoint", "train"),
    "verify": (
        "api", "tasks", "pipeline", "settings", "provenance", "images", "loading", "families", "checkpoint", "text",
        "diffusion", "nets", "runtime", "hub", "adapters",
    ),
    "server": (
        "api", "tasks", "pipeline", "settings", "provenance", "images", "hub", "runtime", "loading", "diffusion",
        "text", "adapters", "train",
    ),
    "client": (),
    "bot": ("client",),
    "cli": (
        "api", "tasks", "pipeline", "settings", "provenance", "images", "loading", "families", "checkpoint", "text",
        "diffusion", "runtime", "hub", "codec", "train", "data", "evaluate", "verify", "lineage", "server", "merging",
        "adapters", "client", "bot",
    ),
}  # fmt: skip
# What still goes another way. Lines may only leave this list.
VIOLATIONS: set[tuple[str, str]] = set()
CIRCLES_OF_FILES: set[frozenset[str]] = set()


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports() -> dict[str, frozenset[str]]:
    """The modules of the package that each module imports, by their names within it."""
    known = modules()
    return {name: frozenset(_imported(path, known)) - {name} for name, path in known.items()}


def _imported(path: Path, known: dict[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively; write the whole name"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] != "sfumato":
                continue
            inner = name.removeprefix("sfumato").strip(".")
            while inner and inner not in known:
                inner = inner.rpartition(".")[0]
            if inner:
                yield inner


def room(module: str) -> str:
    return module.split(".")[0]


def test_rooms_import_only_from_rooms_below() -> None:
    found = {
        (name, other)
        for name, others in imports().items()
        for other in others
        if name and room(name) != room(other) and not _allowed(room(name), room(other))
    }
    assert not found - VIOLATIONS, "these imports go against the drawn directions"
    assert not VIOLATIONS - found, "these are mended; take them out of VIOLATIONS"


def test_training_is_handed_its_data_set() -> None:
    """Methods speak to `data.protocol`; that they know no set by name is what makes another set possible."""
    assert not {
        name
        for name, others in imports().items()
        if room(name) == "train" and any(other.startswith("data.emoji") for other in others)
    }


def _allowed(here: str, there: str) -> bool:
    if here in ("__init__", "__main__"):
        return True
    return there in GROUND if here in GROUND else there in GROUND or there in ALLOWED[here]


def test_no_files_import_each_other_in_a_circle() -> None:
    found = set(circles(imports()))
    assert not found - CIRCLES_OF_FILES, "these files import each other in a circle"
    assert not CIRCLES_OF_FILES - found, "these circles are gone; take them out of CIRCLES_OF_FILES"


def test_the_drawn_directions_have_no_circle() -> None:
    assert not list(circles({here: frozenset(there) for here, there in ALLOWED.items()}))


def circles(graph: dict[str, frozenset[str]]) -> Iterator[frozenset[str]]:
    """The strongly connected parts of more than one node (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[frozenset[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph.get(node, ()):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            part = set()
            while node not in part:
                part.add(stack.pop())
            if len(part) > 1:
                found.append(frozenset(part))

    for node in graph:
        if node not in index:
            visit(node)
    yield from found


def test_circles_are_found() -> None:
    graph = {"a": frozenset("b"), "b": frozenset("c"), "c": frozenset("a"), "d": frozenset("a")}
    assert list(circles(graph)) == [frozenset("abc")]


def test_every_room_says_what_belongs_there() -> None:
    for file in sorted(ROOT.rglob("__init__.py")):
        said = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
        assert said and said.split("\n")[0].endswith((".", ":")), f"{file} does not open with a sentence"
    assert all((file.parent / "__init__.py").is_file() for file in modules().values())
