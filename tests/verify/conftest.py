"""A reference folder that tests may damage, and the command run on it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sfumato.cli.main import app

PART = Path(__file__).parents[1] / "golden"


@dataclass(frozen=True)
class Outcome:
    """How the command ended; `rows` maps a case's path to the rest of its row."""

    code: int
    stdout: str
    stderr: str

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        return {row.pop("case"): row for row in json.loads(self.stdout)["cases"]}

    @property
    def failed(self) -> list[str]:
        return [case for case, row in self.rows.items() if not row["passed"]]


@pytest.fixture
def verify() -> Callable[..., Outcome]:
    """`verify(folder, "--only", "tiny")` with `--json` unless `plain`."""

    def run(folder: Path, *words: str, plain: bool = False) -> Outcome:
        arguments = ["verify", str(folder), *words, *([] if plain else ["--json"])]
        result = CliRunner().invoke(app, arguments, prog_name="sfumato")
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def part(tmp_path: Path) -> Path:
    """A small reference folder of several kinds, to be damaged."""
    for name in ("samplers/sd3.json", "samplers/sd3.safetensors", "schedules/sdxl_sgm.json", "schedules/sd3_flow.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(PART / name, tmp_path / name)
    return tmp_path
