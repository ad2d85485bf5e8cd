"""What mkdocs does beyond its own when `make docs` builds the site.

Formulas become MathML, which browsers draw without a script. Some files outside of docs/ become pages. Each chapter of
docs/learn is there as a notebook. A page that would load anything from elsewhere fails the build.
"""

from __future__ import annotations

import html
import json
import posixpath
import re
import sys
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import notebooks  # noqa: E402

# Pages of the site that lie elsewhere in the repository.
ELSEWHERE = {
    "changelog.md": "CHANGELOG.md",
    "bench.md": "bench/README.md",
    "model-card.md": "src/sfumato/assets/emoji/README.md",
}
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
LOADED = re.compile(
    r"""<(?:script|img|iframe|source|audio|video)\b[^>]*\bsrc\s*=\s*["']?((?:https?:)?//[^"'\s>]+)"""
    r"""|<link\b(?=[^>]*rel=["']?(?:stylesheet|preconnect|preload|icon))[^>]*\bhref=["']?((?:https?:)?//[^"'\s>]+)"""
)
IN_CSS = re.compile(r"""(?:url\(|@import\s+)["']?((?:https?:)?//[^"')\s]+)""")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie elsewhere, and the notebooks."""
    for page, source in ELSEWHERE.items():
        if files.get_file_from_path(page) is None:
            content = (ROOT / source).read_text("utf-8")
            files.append(File.generated(config, page, content=_from_root(content, source)))
    for chapter in notebooks.chapters([]):
        made = json.dumps(notebooks.notebook(chapter.read_text("utf-8")), indent=1, ensure_ascii=False)
        files.append(File.generated(config, f"learn/{chapter.stem}.ipynb", content=made))
    return files


def _from_root(content: str, source: str) -> str:
    """The links of a page that lies elsewhere, as those of one in docs/."""

    def moved(found: re.Match[str]) -> str:
        target, anchor = found[2], found[3] or ""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        return f"{found[1]}({_in_docs(path)}{anchor})"

    return re.sub(r"(\[[^\]]*\])\((?!https?:|#|mailto:)([^)#\s]+)(#[^)]*)?\)", moved, content)


def _in_docs(path: str) -> str:
    """Where a file of the repository is on the site."""
    for page, source in ELSEWHERE.items():
        if path == source:
            return page
    return path.removeprefix("docs/") if path.startswith("docs/") else f"../{path}"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Say on a chapter where its notebook is; lead links out of docs/ to the pages made of them."""
    for place, source in ELSEWHERE.items():
        markdown = markdown.replace(f"](../{source}", f"]({place}")
    chapter = re.fullmatch(r"learn/(\w+)\.md", page.file.src_uri)
    if chapter is not None and chapter[1] != "index":
        title, _, rest = markdown.partition("\n")
        return f"{title}\n\n[Download this page as a notebook]({chapter[1]}.ipynb)\n{rest}"
    return markdown


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn formulas into MathML."""

    def drawn(found: re.Match[str]) -> str:
        return convert(html.unescape(found[3]).strip(), display="block" if found[2] == "[" else "inline")

    return FORMULA.sub(drawn, content)


def on_post_build(config: MkDocsConfig) -> None:
    """Refuse a site that loads anything from elsewhere."""
    for path in sorted(Path(config.site_dir).rglob("*")):
        pattern = {".html": LOADED, ".css": IN_CSS}.get(path.suffix)
        found = pattern.search(path.read_text("utf-8")) if pattern else None
        if found is not None:
            raise PluginError(
                f"{path.name} loads {next(filter(None, found.groups()))}; a page loads nothing from elsewhere"
            )
