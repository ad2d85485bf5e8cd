"""The built page belongs to its sources, is small, and speaks all its languages."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from pathlib import Path

import pytest

from sfumato.hub.local_models import ROOMS
from sfumato.settings.table import OPTIONS
from sfumato.train.registry import of_pictures_alone

ROOT = Path(__file__).parents[3]
WEB = ROOT / "web"
BUILT = ROOT / "src" / "sfumato" / "server" / "web"
SOURCES = ("index.html", "package-lock.json", "package.json", "src", "tsconfig.json", "vite.config.ts")
MESSAGES = WEB / "src" / "messages"
ENGLISH = json.loads((MESSAGES / "en.json").read_text(encoding="utf-8"))
LANGUAGES = ("th", "zh", "id", "uk", "ja")
CODE = {path: path.read_text(encoding="utf-8") for path in (WEB / "src").rglob("*.ts*")}
MOST_BYTES = 100_000  # of all that a browser loads, gzipped


def test_the_page_was_built_of_these_sources() -> None:
    files = [path for name in SOURCES for path in ((WEB / name).rglob("*") if (WEB / name).is_dir() else [WEB / name])]
    named = sorted((path.relative_to(WEB).as_posix(), path) for path in files if path.is_file())
    said = hashlib.sha256()
    for name, path in named:
        said.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    assert (BUILT / "sources.sha256").read_text().strip() == said.hexdigest(), "build the page again: make page"


def test_the_page_is_small() -> None:
    files = [path for path in BUILT.iterdir() if path.suffix in (".js", ".css", ".html", ".svg")]
    assert files and sum(len(gzip.compress(path.read_bytes())) for path in files) < MOST_BYTES


def test_the_page_names_no_other_origin() -> None:
    for path in BUILT.glob("*.html"):
        assert not re.search(r"(?:src|href)=\"(?!/web/)", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_message_is_missing(language: str) -> None:
    said = json.loads((MESSAGES / f"{language}.json").read_text(encoding="utf-8"))
    assert set(said) == set(ENGLISH)
    for key, text in said.items():
        assert text.strip() and set(re.findall(r"{\w+}", text)) == set(re.findall(r"{\w+}", ENGLISH[key])), key
    assert len(said["example_prompts"].split("|")) == len(ENGLISH["example_prompts"].split("|"))


def test_every_option_has_a_name_in_words() -> None:
    panels = {re.sub(r"[\s,_-]+", "_", one.panel).lower() for one in OPTIONS.values()}
    assert {f"option_{name}" for name in OPTIONS} | {f"panel_{name}" for name in panels} <= set(ENGLISH)
    methods = {one.name.replace("-", "_") for one in of_pictures_alone()}
    assert {f"method_{name}{end}" for name in methods for end in ("", "_good")} <= set(ENGLISH)
    assert {f"kind_{re.sub('[ -]', '_', kind)}" for kind in ROOMS.values()} <= set(ENGLISH)


def test_every_message_is_used_and_every_used_one_is_there() -> None:
    code = "\n".join(CODE.values())
    used = set(re.findall(r"\bt\(\"(\w+)\"", code)) | set(re.findall(r"\"(said_\w+|\w+)\"", code)) & set(ENGLISH)
    assert set(re.findall(r"\bt\(\"(\w+)\"", code)) <= set(ENGLISH)
    built = tuple(re.findall(r"\bt\(`(\w+_)\$", code))
    assert [key for key in ENGLISH if key not in used and not key.startswith(built)] == []
