"""The calls of a server in README and docs, one after the other, as a reader types them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

PYTHON = re.compile(r"^```py\n(.*?)^```", re.DOTALL | re.MULTILINE)
ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(?:sh|console)\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
@pytest.mark.parametrize("page", ["README.md", "docs/server.md"])
def test_calls_of_a_page(page: str, server: str, tmp_path: Path) -> None:
    """Addresses become the live server's, and ID the id of the last job."""
    text = "".join(block for block in BLOCK.findall((ROOT / page).read_text(encoding="utf-8")) if "curl" in block)
    commands = [line for line in re.split(r"\n(?=\w+ )", text.strip()) if line.startswith(("curl", "python -c"))]
    assert len(commands) >= 3
    job = "none"
    for command in commands:
        command = command.replace("localhost:7860", server.removeprefix("http://")).replace("/ID/", f"/{job}/")
        done = subprocess.run(
            ["sh", "-c", command.replace("curl ", "curl --fail-with-body -sS ")], cwd=tmp_path, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        if done.stdout.startswith("{"):
            job = json.loads(done.stdout).get("id", job)
    Image.open(tmp_path / "heart.png").verify()


def test_python_of_the_page(server: str, tmp_path: Path) -> None:
    """Blocks of `py`, which want a server, each in a process of its own."""
    found = PYTHON.findall((ROOT / "docs/server.md").read_text(encoding="utf-8"))
    assert len(found) >= 2
    Image.new("RGB", (128, 128), "red").save(tmp_path / "heart.png")
    for block in found:
        for address in ("http://127.0.0.1:7860", "http://localhost:7860"):
            block = block.replace(address, server)
        done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{block}\n{done.stderr}"
