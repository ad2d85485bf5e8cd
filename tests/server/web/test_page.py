"""The page in a real browser, with a live server."""

from __future__ import annotations

import io
import re
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image, PngImagePlugin

from server.conftest import serving
from server.web.browsing import PATIENCE, VIEWS, Page, png
from sfumato.server.config import Config
from sfumato.server.safety.users import add_user

ROOT = Path(__file__).parents[3]
QUICK = {"steps": 2, "width": 64, "height": 64, "seed": 7}


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
    assert httpx.get(f"{server}/api/gallery", params={"words": "green frog"}, timeout=120).json()["total"] == 1
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
    job = httpx.post(
        f"{server}/api/jobs", json={"prompt": "a paper crane", "options": {**QUICK, "n": 2}}, timeout=120
    ).json()["id"]
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


def test_a_painted_mask_is_drawn_anew_and_the_rest_stays(opened: Any, server: str) -> None:
    page = opened("edit")
    page.set_input_files(
        "input[type=file]", {"name": "sky.png", "mimeType": "image/png", "buffer": png("skyblue", 128)}
    )
    sheet = page.wait_for_selector(".sheet").bounding_box()
    page.click(".edit button.primary")
    page.wait_for_selector(".toast:has-text('Paint')")
    middle = sheet["x"] + sheet["width"] / 2, sheet["y"] + sheet["height"] / 2
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 20, middle[1] + 20, steps=4)
    page.mouse.up()
    page.fill("#prompt", "a red heart")
    page.click(".edit button.primary")
    page.wait_for_selector(".edit .cell.done img")
    shown = httpx.get(f"{server}/api/gallery", params={"words": "Mask", "count": 1}, timeout=120).json()["pictures"][0]
    drawn = Image.open(io.BytesIO(httpx.get(server + shown["url"], timeout=120).content)).convert("RGB")
    blue = Image.new("RGB", (1, 1), "skyblue").getpixel((0, 0))
    assert shown["kind"] == "inpaint" and drawn.size == (128, 128)
    assert max(abs(a - b) for a, b in zip(drawn.getpixel((4, 4)), blue, strict=True)) < 6
    assert max(abs(a - b) for a, b in zip(drawn.getpixel((64, 64)), blue, strict=True)) > 6


def test_the_canvas_by_keyboard(opened: Any) -> None:
    page = opened("edit")
    page.click("button:has-text('Empty sheet')")
    page.focus(".canvas")
    for key in ("Space", "ArrowRight", "Shift+ArrowDown", "Space"):
        page.keyboard.press(key)
    painted = (
        "document.querySelectorAll('.stack canvas')[1].getContext('2d').getImageData(0,0,999,999).data.some(v => v)"
    )
    assert page.evaluate(painted)
    page.keyboard.press("Control+z")
    assert not page.evaluate(painted)


def test_a_dropped_foreign_picture_says_how_it_was_drawn(opened: Any) -> None:
    page = opened()
    settings = PngImagePlugin.PngInfo()
    settings.add_text("parameters", "a castle\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Curiosity: 3")
    transfer = page.evaluate_handle(
        "bytes => { const one = new DataTransfer();"
        "one.items.add(new File([new Uint8Array(bytes)], 'a.png', {type: 'image/png'})); return one; }",
        list(png("red", 64, pnginfo=settings)),
    )
    page.dispatch_event(".page", "drop", {"dataTransfer": transfer})
    page.wait_for_selector(".recipe p:has-text('a castle')")
    page.wait_for_selector(".lost li:has-text('Curiosity')")
    page.click(".recipe button:has-text('Draw with these settings')")
    assert page.wait_for_selector("#prompt").input_value() == "a castle"


def test_a_table_fills_in(opened: Any) -> None:
    page = opened("more", form='{"options": {"steps": 2}, "prompt": "a cup", "model": "emoji"}')
    page.wait_for_selector("option:has-text('clip skip')", state="attached")
    for row, (name, values) in enumerate((("cfg", "1, 2"), ("steps", "1..2"))):
        page.locator(".more-view select").nth(row).select_option(name)
        page.locator(".more-view textarea").nth(row).fill(values)
    page.click("text=Fill the table")
    page.wait_for_selector(".xyz tr:nth-child(2) td:nth-child(3) .cell.done")
    assert page.locator(".xyz td .pictures").count() == 4


def test_the_steps_are_shown_with_and_without_guidance_and_by_word(opened: Any) -> None:
    page = opened("learn", form='{"prompt": "a heart left of a rocket", "options": {"steps": 2}, "model": "emoji"}')
    page.wait_for_selector("button.primary:enabled").click()
    page.wait_for_selector(".along:nth-of-type(1) li:nth-child(3) img[alt='With guidance, Picture']")
    page.wait_for_selector(".along:nth-of-type(2) li:nth-child(3) img[alt='Without guidance, Picture']")
    page.click(".learn .chip:has-text('rocket')")
    page.wait_for_selector(".film:nth-child(2) .heat[aria-label$='rocket']")
    light = (
        "[...document.querySelectorAll('.heat')].map(one => {"
        "const {data} = one.getContext('2d').getImageData(0, 0, one.width, one.height);"
        "const at = [0, 0]; for (let k = 0; k < data.length / 4; k++)"
        "at[Math.floor(2 * (k % one.width) / one.width)] += 230 - data[4 * k + 3]; return at[1] / at[0]; })"
    )
    right = page.evaluate(light)
    page.click(".learn .chip:has-text('heart')")
    page.wait_for_selector(".film:nth-child(2) .heat[aria-label$='heart']")
    left = page.evaluate(light)
    assert len(right) == 2 and right[0] > 1.2 and left[0] < right[0] / 1.5
    page.locator(".along .thumb").nth(1).click()
    page.wait_for_selector(".film:nth-child(2) figcaption:has-text('Without guidance, Step 2')")
    page.wait_for_selector(".heat[aria-label='Where the picture attends to: heart']")
    page.reload()
    page.wait_for_selector(".along:nth-of-type(1) li:nth-child(3) img[alt='With guidance, Picture']")
    page.wait_for_selector(".along:nth-of-type(2) li:nth-child(3) img[alt='Without guidance, Picture']")
    page.locator(".along .thumb").first.click()
    page.click(".learn .chip:has-text('rocket')")
    page.wait_for_selector(".film:nth-child(2) .heat[aria-label$='rocket']")


def test_models_and_loras_are_picked_by_picture(opened: Any, server: str) -> None:
    options = {**QUICK, "lora": ["sepia:1"]}
    job = httpx.post(f"{server}/api/jobs", json={"prompt": "a face", "options": options}, timeout=120).json()["id"]
    httpx.get(f"{server}/api/jobs/{job}/events", timeout=120)
    drawn = httpx.get(f"{server}/api/gallery", params={"model": "emoji-fast", "count": 500}, timeout=120).json()[
        "pictures"
    ]
    places = [{"job": one["job"], "index": one["index"]} for one in drawn]  # by tests that ran before
    httpx.post(f"{server}/api/gallery/mark", json={"pictures": places, "deleted": True}, timeout=120)
    page = opened()
    page.click("details.more summary")
    page.wait_for_selector(f".lora:has-text('sepia') img[src*='{job}']")
    page.wait_for_selector(f".faced:has(:checked):has-text('emoji') img[src*='{job}']")
    assert page.locator(".faced:has-text('emoji-fast') span.face").inner_text() == "E"
    page.locator(".faced:has-text('emoji-fast') input").check(force=True)
    assert "emoji-fast" in page.evaluate("localStorage.form")


ALPHA = (
    "[...document.querySelectorAll('.stack canvas')[1].getContext('2d').getImageData(0, 0, 999, 999).data]"
    ".filter((value, k) => k % 4 == 3 && value).length"
)


def test_a_pen_is_wider_where_it_presses_and_two_fingers_move_the_sheet(opened: Any) -> None:
    page = opened("edit", has_touch=True)
    page.click("button:has-text('Empty sheet')")
    box = page.wait_for_selector(".sheet").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    devtools = page.context.new_cdp_session(page)

    def pen(force: float) -> int:
        for kind in ("mousePressed", "mouseReleased"):
            devtools.send("Input.dispatchMouseEvent", {"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1,
                                                       "pointerType": "pen", "force": force})  # fmt: skip
        painted = page.evaluate(ALPHA)
        page.click(".tools button:has-text('Undo')")
        return painted

    assert 0 < 2 * pen(0.1) < pen(1.0)

    def fingers(kind: str, apart: float) -> None:
        points = [{"x": x - apart, "y": y, "id": 1}, {"x": x + apart, "y": y, "id": 2}]
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points if apart else []})

    fingers("touchStart", 40)
    for apart in (50, 65, 80):
        fingers("touchMove", apart)
    fingers("touchEnd", 0)
    assert 1.8 < page.wait_for_selector(".sheet").bounding_box()["width"] / box["width"] < 2.2
    assert page.evaluate(ALPHA) == 0


@pytest.mark.parametrize("view", ("draw", "edit", "models"))
def test_right_to_left_is_a_mirror(opened: Any, view: str) -> None:
    page = opened(view, viewport={"width": 1280, "height": 900})
    page.wait_for_timeout(300)
    before = page.wait_for_selector(".brand").bounding_box()["x"]
    page.evaluate("document.documentElement.dir = 'rtl'")
    assert page.wait_for_selector(".brand").bounding_box()["x"] > 900 > before
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    outside = (
        "[...document.querySelectorAll('main button, main input, main select')].filter(one => one.offsetParent)"
        ".filter(one => { const {left, right} = one.getBoundingClientRect(); return left < 0 || right > innerWidth; })"
        ".map(one => one.outerHTML)"
    )
    assert page.evaluate(outside) == []


def log_in(page: Page, name: str, password: str) -> None:
    page.fill("dialog.login input[name=user]", name)
    page.fill("dialog.login input[name=token]", password)
    page.click("dialog.login button")


def test_two_users_log_in_by_our_form_and_see_their_own(browser: Any, tmp_path: Path) -> None:
    for name in ("ann", "bo"):
        add_user(tmp_path / "users", name, f"{name}-password")
    with serving(Config(folder=tmp_path / "server", users=tmp_path / "users")) as address:
        ann, bo = pages = [browser.new_context(locale="en-GB").new_page() for _ in range(2)]
        for page in pages:
            page.set_default_timeout(PATIENCE)
            page.add_init_script('localStorage.setItem(\'form\', \'{"options": {"steps": 2}, "model": "emoji"}\')')
        ann.goto(f"{address}/?token=ann:ann-password")
        assert "token" not in ann.url
        bo.goto(address)
        log_in(bo, "bo", "ann-password")
        bo.wait_for_selector("dialog.login [role=alert]:has-text('does not know this name')")
        log_in(bo, "bo", "bo-password")
        bo.wait_for_selector("dialog.login", state="detached")
        ann.fill("#prompt", "a secret cup")
        ann.click(".composer button.primary")
        ann.wait_for_selector(".cell.done img[alt='a secret cup']")
        for page, count in ((ann, 1), (bo, 0)):
            page.evaluate("location.hash = 'gallery'")
            page.wait_for_selector(f"text=Pictures: {count}")
        bo.context.clear_cookies()
        bo.evaluate("location.hash = 'models'")
        log_in(bo, "ann", "ann-password")
        bo.wait_for_selector("dialog.login", state="detached")
        bo.evaluate("location.hash = 'gallery'")
        bo.wait_for_selector("text=Pictures: 1")
        for page in pages:
            page.context.close()


@pytest.mark.slow
def test_a_server_that_starts_again_goes_on_with_the_picture(browser: Any, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with serving(Config(folder=tmp_path, drain=0), port):
        page = browser.new_page()
        page.set_default_timeout(120_000)
        page.add_init_script("localStorage.setItem('form', '{\"options\": {\"steps\": 200}}')")
        page.goto(f"http://127.0.0.1:{port}/")
        page.fill("#prompt", "a patient snail")
        page.click(".composer button.primary")
        page.wait_for_selector(".progress progress[value]")
    page.wait_for_selector(".banner")
    with serving(Config(folder=tmp_path), port):
        page.wait_for_selector(".cell.done img[alt='a patient snail']")
        page.close()


@pytest.mark.parametrize("view", VIEWS)
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
