"""The chapters of docs/learn: their code, what they show, and the notebooks that are made of them."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
TOOL, LEARN = ROOT / "tools" / "notebooks.py", ROOT / "docs" / "learn"
PAGES = sorted(page.stem for page in LEARN.glob("*.md") if page.stem != "index")


def _tool():
    spec = importlib.util.spec_from_file_location("notebooks", TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules["notebooks"] = module
    spec.loader.exec_module(module)
    return module


notebooks = _tool()


def read(name: str) -> str:
    return (LEARN / f"{name}.md").read_text("utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_a_chapter_has_code_that_parses_pictures_that_are_there_exercises_and_their_answers(name):
    page = read(name)
    cells = notebooks.cells(page)
    assert len(cells) >= 5
    for cell in cells:
        ast.parse(cell.code)
        if cell.file is not None:
            assert cell.alt, f"{cell.file} is not described"
            assert (LEARN / cell.file).is_file()
    assert page.count("```python") == len(cells)
    asked, answered = page.split("## Exercises")[1].split("## Answers")
    numbers = [re.findall(r"^(\d)\. ", part, re.MULTILINE) for part in (asked, answered)]
    assert len(numbers[0]) >= 3
    assert numbers[0] == numbers[1]


@pytest.mark.parametrize("name", PAGES)
def test_what_a_chapter_imports_exists(name):
    for cell in notebooks.cells(read(name)):
        imports = [node for node in ast.parse(cell.code).body if isinstance(node, ast.Import | ast.ImportFrom)]
        exec(compile(ast.Module(imports, []), name, "exec"), {})


def test_every_picture_belongs_to_one_cell():
    shown = [cell.file for name in PAGES for cell in notebooks.cells(read(name)) if cell.file is not None]
    assert sorted(shown) == sorted(path.name for path in LEARN.glob("*.webp"))


@pytest.mark.parametrize("name", PAGES)
def test_a_notebook_has_the_page_in_order_without_what_its_reader_makes(name):
    page = read(name)
    made = json.loads(json.dumps(notebooks.notebook(page)))
    assert (made["nbformat"], made["nbformat_minor"]) == (4, 5)
    assert [part["source"] for part in made["cells"] if part["cell_type"] == "code"] == [
        cell.code.strip().splitlines(True) for cell in notebooks.cells(page)
    ]
    ids = [part["id"] for part in made["cells"]]
    assert len(set(ids)) == len(ids)
    text = "".join("".join(part["source"]) for part in made["cells"] if part["cell_type"] == "markdown")
    assert ".webp" not in text and "```" not in text
    at = [page.index("".join(part["source"])[:60]) for part in made["cells"] if part["cell_type"] == "markdown"
          if ".ipynb" not in "".join(part["source"])[:60]]  # fmt: skip
    assert at == sorted(at)


PAGE = """# A page

```python
print("pi", 3.14159)
```

```text
pi 3.14
```

Words.

```python
from PIL import Image
Image.new("RGB", (4, 4), "red")
```

![Red](red.webp)
"""


def outcome(page: str, folder: Path) -> list[str]:
    return [
        difference
        for cell, text, picture in notebooks.run(page, "page")
        for difference in notebooks.differences(cell, text, picture, folder)
    ]


def test_what_a_page_shows_is_compared_with_what_its_code_shows(tmp_path):
    Image.new("RGB", (4, 4), "red").save(tmp_path / "red.webp", lossless=True)
    assert outcome(PAGE, tmp_path) == []
    (wrong,) = outcome(PAGE.replace("pi 3.14\n", "pi 3.5\n"), tmp_path)
    assert "pi 3.5" in wrong and "3.14159" in wrong
    (wrong,) = outcome(PAGE.replace("![Red](red.webp)\n", ""), tmp_path)
    assert "no picture" in wrong
    Image.new("RGB", (4, 4), "maroon").save(tmp_path / "red.webp", lossless=True)
    (wrong,) = outcome(PAGE, tmp_path)
    assert "red.webp differs" in wrong


def test_what_varies_between_machines_is_compared_by_its_kind(tmp_path):
    page = PAGE.replace("```python", "<!-- varies -->\n```python").replace("pi 3.14\n", "pi 9\n")
    Image.new("RGB", (4, 4), "blue").save(tmp_path / "red.webp", lossless=True)
    assert outcome(page, tmp_path) == []
    Image.new("RGB", (5, 4), "red").save(tmp_path / "red.webp", lossless=True)
    assert len(outcome(page, tmp_path)) == 1


def test_refreshing_puts_what_the_code_shows_into_the_page(tmp_path):
    old = PAGE.replace("pi 3.14\n", "tau\n")
    parts = [notebooks.refreshed(cell, text, picture, tmp_path) for cell, text, picture in notebooks.run(old, "page")]
    assert parts[0] == '```python\nprint("pi", 3.14159)\n```\n\n```text\npi 3.14159\n```\n'
    assert parts[1].endswith("![Red](red.webp)\n")
    with Image.open(tmp_path / "red.webp") as image:
        assert image.convert("RGB").getpixel((0, 0)) == (255, 0, 0)


def test_a_chapter_that_asks_for_a_network_fails():
    code = f"import sys; sys.path.insert(0, {str(TOOL.parent)!r}); import notebooks, socket; notebooks.offline(); "
    result = subprocess.run(
        [sys.executable, "-c", code + "socket.create_connection(('127.0.0.1', 9))"], capture_output=True, text=True
    )
    assert result.returncode == 1
    assert "chapters run offline" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_a_chapter_runs_offline_and_shows_what_its_page_shows(name):
    source = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        [sys.executable, str(TOOL), "check", name],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": source, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stdout + result.stderr
