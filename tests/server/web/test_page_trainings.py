"""Trainings from the page, and what axe finds in it, in a real browser, with a live server."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tiny
from server.web.browsing import VIEWS, Page, png
from sfumato.loading.save import save_folder
from sfumato.server.trainings.offers import OFFERS
from tiny.models import TINY, random_model

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_a_lora_is_taught_by_pictures(opened: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path))
    page = opened("models")
    files = [{"name": f"{one}.png", "mimeType": "image/png", "buffer": png(one, 64)} for one in ("red", "navy")]
    text = {"name": "navy.txt", "mimeType": "text/plain", "buffer": b"a navy sheet"}
    page.set_input_files(".train input[type=file]", [*files, text])
    page.wait_for_selector(".shown img[alt='a navy sheet']")
    page.fill(".train .fields .wide input", "a sheet")
    page.get_by_label("Name", exact=True).fill("sheets")
    page.locator(".train input[type=number]").fill("3")
    page.click(".train button.primary")
    page.wait_for_selector(".run h3:has-text('sheets') .count:has-text('is being learnt')")
    page.wait_for_selector(".run .count:has-text('done')")
    page.wait_for_selector(".run svg.curve polyline")
    page.wait_for_selector(".run img[alt='Pictures after step 3']")
    assert (tmp_path / "models" / "Lora" / "sheets.safetensors").is_file()
    page.click(".run button:has-text('Draw with it')")
    page.wait_for_selector(".composer .lora:has-text('sheets') :checked", state="attached")


@pytest.mark.slow
def test_a_word_is_taught_and_drawn_with(opened: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path))
    offer = OFFERS["textual-inversion"]
    small = {"data.resolution": 64, "sheet_steps": 2}
    monkeypatch.setitem(OFFERS, "textual-inversion", replace(offer, keys=lambda one: {**offer.keys(one), **small}))
    model = random_model(TINY)
    tiny.WORDS.save(tmp_path / "words")
    folder = tmp_path / "models" / "Stable-diffusion" / "tiny"
    save_folder(folder, model.spec, model.networks, tokenizer_folder=tmp_path / "words")
    page = opened("models", form='{"prompt": "a red", "options": {"steps": 2}, "model": "tiny"}')
    page.wait_for_selector("h4:has-text('tiny')")
    page.set_input_files(
        ".train input[type=file]", {"name": "a.png", "mimeType": "image/png", "buffer": png("red", 64)}
    )
    page.click(".methods label:has-text('Textual inversion')")
    page.fill(".train .fields .wide input", "a sheet")
    page.get_by_label("Name", exact=True).fill("my-sheet")
    page.get_by_label("Used like").fill("red")
    assert page.locator(".train input[type=number]").input_value() == "3000"
    page.locator(".train input[type=number]").fill("2")
    page.click(".train button.primary")
    page.click(".run:has-text('my-sheet') button:has-text('Draw with it')")
    assert page.wait_for_selector("#prompt").input_value() == "a red my-sheet"


@pytest.fixture(scope="module")
def axe() -> str:
    """What finds barriers, as a script."""
    file = ROOT / "web" / "node_modules" / "axe-core" / "axe.min.js"
    if not file.is_file():
        pytest.skip("needs axe-core: make page")
    return file.read_text(encoding="utf-8")


def barriers(page: Page, axe: str) -> list[tuple[str, list[str]]]:
    page.wait_for_timeout(300)
    page.evaluate(axe)
    return [(one["id"], [node["html"] for node in one["nodes"]]) for one in page.evaluate("axe.run()")["violations"]]


def test_axe_finds_nothing(opened: Any, axe: str) -> None:
    page = opened(color_scheme="dark")
    for view in VIEWS:
        page.evaluate(f"location.hash = '{view}'")
        assert barriers(page, axe) == [], view
    page.evaluate("document.querySelector('main').insertAdjacentHTML('beforeend', '<img src=x>')")
    assert [name for name, _ in barriers(page, axe)] == ["image-alt"]


@pytest.mark.parametrize(
    "language", ["uk", *(pytest.param(other, marks=pytest.mark.slow) for other in ("en", "th", "zh", "id", "ja"))]
)
def test_axe_finds_nothing_where_pictures_are_and_all_is_open(opened: Any, axe: str, language: str) -> None:
    page = opened(form='{"prompt": "a cup", "options": {"steps": 2}, "model": "emoji"}', locale=language)
    page.click(".composer button.primary")
    page.click(".composer summary")
    page.wait_for_selector(".cell.done img")
    assert barriers(page, axe) == [], "draw"
    page.click(".cell.done")
    page.wait_for_selector("dialog[open] .actions")
    assert barriers(page, axe) == [], "detail"
    page.locator("dialog .actions button").nth(2).click()
    page.wait_for_selector(".sheet")
    assert barriers(page, axe) == [], "edit"
    page.evaluate("location.hash = 'gallery'")
    page.locator(".pick").first.check(force=True)
    page.click(".gallery summary")
    assert barriers(page, axe) == [], "gallery"
    page.evaluate("location.hash = 'models'")
    page.set_input_files(
        ".train input[type=file]", {"name": "a.png", "mimeType": "image/png", "buffer": png("red", 64)}
    )
    page.wait_for_selector(".methods input")
    assert barriers(page, axe) == [], "models"
