"""The docs as a site: every page has its place, links lead somewhere, the reference names what exists."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))
PAGES = [*sorted(DOCS.rglob("*.md")), *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md"))]
FROM_ELSEWHERE = {"changelog.md", "bench.md", "model-card.md"}
LINK = re.compile(r"\[[^\]]*\]\((?!https?:|mailto:)([^)\s#]*)(?:#([^)\s]+))?\)")


def in_nav(entries: object) -> Iterator[str]:
    if isinstance(entries, str):
        yield entries
    else:
        for entry in entries.values() if isinstance(entries, dict) else entries:
            yield from in_nav(entry)


def anchors(page: Path) -> set[str]:
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


def test_every_page_has_one_place_in_the_navigation():
    assert sorted(in_nav(CONFIG["nav"])) == sorted(
        {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")} | FROM_ELSEWHERE
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page):
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target, anchor in LINK.findall(text):
        file = page.parent / target if target else page
        assert file.exists(), f"{target} is not there"
        assert not anchor or anchor in anchors(file), f"{target} has no heading {anchor!r}"


def test_the_site_asks_for_nothing_outside():
    assert CONFIG["theme"]["font"] is False
    assert not {"extra_css", "extra_javascript"} & set(CONFIG)
    assert "analytics" not in CONFIG.get("extra", {})
    assert CONFIG["strict"] is True


@pytest.mark.parametrize("page", sorted(DOCS.glob("api/*.md")), ids=lambda page: page.stem)
def test_the_reference_names_what_exists_and_is_documented(page):
    for name in re.findall(r"^::: (\S+)$", page.read_text("utf-8"), re.MULTILINE):
        parts = name.split(".")
        for end in range(len(parts), 0, -1):
            if importlib.util.find_spec(".".join(parts[:1])) and _is_module(parts[:end]):
                break
        found = importlib.import_module(".".join(parts[:end]))
        for part in parts[end:]:
            found = getattr(found, part)
        assert found.__doc__, f"{name} has no docstring"


def test_the_page_of_options_is_written_from_their_tables():
    spec = importlib.util.spec_from_file_location("keywords_tool", ROOT / "tools" / "keywords.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.PAGE.read_text("utf-8") == tool.page(), "run tools/keywords.py"


def test_the_example_of_the_reference_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"^```python\n(.*?)^```", (DOCS / "api" / "index.md").read_text("utf-8"), re.M | re.S)
    exec(compile(example, "docs/api/index.md", "exec"), {})
    assert (tmp_path / "apple.png").is_file()


def _is_module(parts: list[str]) -> bool:
    try:
        return importlib.util.find_spec(".".join(parts)) is not None
    except ModuleNotFoundError:
        return False


@pytest.fixture(scope="module")
def hooks():
    """What the build does beyond mkdocs; only where `make docs` has installed that."""
    pytest.importorskip("mkdocs")
    pytest.importorskip("latex2mathml")
    spec = importlib.util.spec_from_file_location("mkdocs_hooks", ROOT / "tools" / "mkdocs_hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://cdn.example/x.js"></script>',
        "<script async src=//cdn.example/x.js></script>",
        '<link href="https://fonts.example/css" rel="stylesheet">',
        '<link rel="preconnect" href="https://fonts.example">',
        '<img alt="x" src="http://elsewhere.example/x.png">',
    ],
)
def test_a_page_that_loads_from_elsewhere_is_noticed(hooks, html):
    assert hooks.LOADED.search(html)
    assert not hooks.LOADED.search(html.replace("https://", "../").replace("http://", "../").replace("//", "../"))


def test_a_link_to_elsewhere_is_no_load(hooks):
    assert not hooks.LOADED.search(
        '<a href="https://example.org">paper</a><link rel="canonical" href="https://x.example">'
    )
    assert hooks.IN_CSS.search("@import url(https://fonts.example/css)")
    assert not hooks.IN_CSS.search("background: url(../x.png)")


def test_links_of_a_page_from_elsewhere_are_led_into_the_docs(hooks):
    page = "[a](docs/training.md#adding-a-method) [b](bench/README.md) [c](https://example.org/x) [d](#here)"
    assert hooks._from_root(page, "CHANGELOG.md") == (
        "[a](training.md#adding-a-method) [b](bench.md) [c](https://example.org/x) [d](#here)"
    )


def test_formulas_become_mathml(hooks):
    page = '<p>x <span class="arithmatex">\\(\\sigma &lt; 1\\)</span></p>'
    drawn = hooks.on_page_content(page, None, None, None)
    assert "<math" in drawn and "arithmatex" not in drawn and "\\sigma" not in drawn
