"""A browser for the tests of the page: Chromium of the system, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from server.web.browsing import PATIENCE, Page, ours

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """Chromium, for one file of tests: as long as playwright runs, no other test can run an event loop."""
    sync = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if CHROMIUM is None:
        pytest.skip("needs chromium on this machine")
    with sync.sync_playwright() as playwright:
        one = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield one
        one.close()


@pytest.fixture
def opened(browser: Any, server: str) -> Iterator[Any]:
    """Opens the page at a view, in a browser of its own; fails on errors, and on requests to anywhere else."""
    contexts, wrong = [], []

    def open_at(view: str = "draw", form: str = "", **how: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, "locale": "en-GB", **how})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None)
        page.on("request", lambda one: None if ours(one.url, server) else wrong.append(f"asked {one.url}"))
        small = form or '{"options": {"steps": 3}, "model": "emoji"}'
        page.add_init_script(f"localStorage.getItem('form') || localStorage.setItem('form', '{small}')")
        page.goto(f"{server}/#{view}")
        page.wait_for_selector("main :first-child")
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert not wrong
