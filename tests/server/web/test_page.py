"""The page in a real browser, with a live server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

Page = Any
QUICK = {"steps": 2, "width": 64, "height": 64, "seed": 7}


@pytest.fixture
def opened(browser: Any, server: str) -> Iterator[Any]:
    """Opens the page at a view, in a browser of its own; fails on errors, and on requests to anywhere else."""
    contexts, wrong = [], []

    def open_at(view: str = "draw", form: str = "", **how: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, "locale": "en-GB", **how})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
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


def ours(url: str, server: str) -> bool:
    return url.startswith((server, server.replace("http", "ws", 1), "data:", "blob:"))


def test_draws_what_is_written_and_keeps_it(opened: Any, server: str) -> None:
    page = opened()
    page.fill("#prompt", "a (green:1.2) frog [x")
    page.wait_for_selector("text=green ×1.20")
    page.wait_for_selector(".marks mark")
    page.fill("#prompt", "a green frog")
    page.click(".composer button.primary")
    page.wait_for_selector(".cell.done img[alt='a green frog']")
    page.click(".cell.done")
    page.wait_for_selector("dialog dt:has-text('Steps') + dd:has-text('3')")
    page.keyboard.press("Escape")
    assert httpx.get(f"{server}/api/gallery", params={"words": "green frog"}).json()["total"] == 1
    page.reload()
    assert page.wait_for_selector("#prompt").input_value() == "a green frog"
    page.wait_for_selector(".cell.done img[alt='a green frog']")


def test_goes_on_after_a_reload_in_mid_picture_and_cancels(opened: Any) -> None:
    page = opened(form='{"options": {"steps": 900}, "model": "emoji"}')
    page.fill("#prompt", "a slow snail")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".progress progress[value]")
    page.reload()
    page.wait_for_selector("img[alt='Preview of a slow snail']", state="attached")
    page.click(".progress .cancel")
    page.wait_for_selector(".progress button:has-text('Try again')")


def test_keyboard_alone(opened: Any) -> None:
    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        here = page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()")
        reached.add(here)
        if here == "Draw" and "prompt" in reached:
            break
        if here == "prompt":
            page.keyboard.type("a tea cup")
    page.keyboard.press("Enter")
    page.wait_for_selector(".cell.done img[alt='a tea cup']").evaluate("one => one.parentElement.focus()")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open] h2:has-text('a tea cup')")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog[open]", state="detached")


def test_gallery_finds_deletes_and_undoes(opened: Any, server: str) -> None:
    job = httpx.post(f"{server}/api/jobs", json={"prompt": "a paper crane", "options": {**QUICK, "n": 2}}).json()["id"]
    httpx.get(f"{server}/api/jobs/{job}/events", timeout=120)
    page = opened("gallery")
    page.fill("input[type=search]", "paper crane")
    page.wait_for_selector("text=Pictures: 2")
    page.locator(".pick").first.check(force=True)
    page.click(".chosen button:has-text('Delete')")
    page.wait_for_selector("text=Pictures: 1")
    page.click(".toast button:has-text('Undo')")
    page.wait_for_selector("text=Pictures: 2")
    page.locator(".tile .thumb").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.k") == "1"


@pytest.mark.parametrize("view", ["draw", "gallery"])
def test_fits_a_phone(opened: Any, view: str) -> None:
    page = opened(view, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    small = page.evaluate(
        "[...document.querySelectorAll('button, a, select')].filter(one => one.offsetParent && one.offsetHeight < 24)"
        ".map(one => one.outerHTML)"
    )
    assert small == []


def test_speaks_the_readers_language(opened: Any) -> None:
    page = opened(locale="uk-UA")
    assert page.get_attribute("html", "lang") == "uk"
    assert re.search("[а-яі]", page.inner_text(".composer button.primary"))
