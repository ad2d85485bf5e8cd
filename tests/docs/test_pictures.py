"""The pictures of README and docs are what the model that ships draws; tools/docs_pictures.py draws them."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
# Pictures that no model draws: originals that the codec figure shows, and scenes that the data set is composed of. And
# what tools/fine_tuning.py draws, after minutes of training, and how the page of the server looks.
GIVEN = {"held-out", "scenes-of-data", "fine-tuning", "page"}
QUICK = (
    "sheet",
    "languages",
    "scenes",
    "img2img",
    "variations",
    "augment",
    "inpaint",
    "outpaint",
    "prompts",
    "codec",
    "sampler-curve",
)
MEAN, OUTLIER, SHARE = 4, 48, 0.02  # levels of 255: WebP's loss and another processor's rounding, not other weights
REDRAW = "is not what the model draws: run `make docs-pictures`, and look at the result"


def _tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_pictures", ROOT / "tools" / "docs_pictures.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["docs_pictures"] = module
    spec.loader.exec_module(module)
    return module


TOOL = _tool()


def compare(name: str, only_last: bool) -> None:
    figure = TOOL.FIGURES[name]()
    boxes = list(figure.boxes())
    with Image.open(DOCS / f"{name}.webp") as picture:
        assert picture.size == figure.size, f"docs/{name}.webp {REDRAW}"
        kept = picture.convert("RGB")
    for cell, box in boxes[-1:] if only_last else boxes:
        drawn = np.asarray(TOOL.shown(cell, box), dtype=float)
        away = np.abs(drawn - np.asarray(kept.crop(box), dtype=float))
        assert away.mean() <= MEAN and (away > OUTLIER).mean() <= SHARE, f"docs/{name}.webp, {cell.label!r}, {REDRAW}"


@pytest.mark.parametrize("name", QUICK)
def test_the_last_cell_is_what_the_model_draws(name: str) -> None:
    compare(name, only_last=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", TOOL.FIGURES)
def test_every_cell_is_what_the_model_draws(name: str) -> None:
    compare(name, only_last=False)


def test_another_picture_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TOOL.FIGURES, "sheet", lambda: TOOL.Figure([TOOL.cells(["a red heart"] * 8)] * 4))
    with pytest.raises(AssertionError, match="make docs-pictures"):
        compare("sheet", only_last=True)


def test_every_picture_is_drawn_by_the_tool_and_shown_on_a_page() -> None:
    files = {path.stem for path in DOCS.glob("*.webp")}
    assert files == set(TOOL.FIGURES) | GIVEN
    pages = [ROOT / "README.md", *DOCS.glob("*.md")]
    shown = {name for page in pages for name in re.findall(r"\]\((?:docs/)?([\w-]+)\.webp\)", page.read_text("utf-8"))}
    assert shown == files - {"held-out"}


def test_the_tables_of_samplers_are_what_was_measured_last() -> None:
    """docs/samplers.md has the figures of bench/sampler-curve.json, the best of each column in bold."""
    curve = TOOL.sampler_curve
    text = (DOCS / "samplers.md").read_text(encoding="utf-8").replace("**", "")
    for table in curve.rows(curve.kept()):
        for row in table:
            assert f"| {' | '.join(row)} |" in text, f"docs/samplers.md lacks the row of {row[0]}"
