"""The calls by curl in README and docs, one after the other, as a reader types them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

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
