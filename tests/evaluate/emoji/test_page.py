"""The page on its own; `test_command` has the command write one."""

from html.parser import HTMLParser

import pytest

from sfumato.evaluate.emoji.tables import Table

VOID = {"meta", "img", "br"}


class Checker(HTMLParser):
    """Fails where a tag is not closed in its turn, and keeps what refers to anything outside."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.links: list[str] = []
        self.pictures = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.pictures += tag == "img"
        assert tag not in ("script", "link", "iframe", "object")
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check(page: str) -> int:
    """The number of pictures of a page that is whole and needs no other file."""
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert not checker.open and page.startswith("<!DOCTYPE html>")
    assert all(link.startswith("data:image/webp;base64,") for link in checker.links)
    assert "http" not in page and "url(" not in page and "@import" not in page
    return checker.pictures


@pytest.mark.parametrize("bad", ["<p><b></p></b>", "<p>", '<img src="http://x/y.png">', "<script></script>"])
def test_the_checker_finds_what_is_wrong(bad: str):
    with pytest.raises((AssertionError, IndexError)):
        check(f"<!DOCTYPE html>{bad}")


def test_tables_are_aligned():
    text = Table([["name", "a", "bb"], ["x", "100", "2"]], "note").text()
    assert text == "name    a  bb\nx     100   2\nnote"
