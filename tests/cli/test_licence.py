"""`sfumato licence` and `sfumato models`, without anything downloaded."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import constants
from typer.testing import Result

from sfumato.checkpoint import hashes

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "home"


def test_a_licence_shows_what_it_allows_asks_and_forbids(run: Run) -> None:
    shown = run("licence", "sd1.5")
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.startswith("Stable Diffusion 1.5: CreativeML Open RAIL-M\nhttps://")
    for heading in ("You may:", "You must:", "Not allowed:"):
        assert f"\n\n{heading}\n  - " in shown.stdout
    assert "Note: first published" in run("licence", "sdxl-turbo").stdout


def test_no_licence_of_nothing(run: Run, refused: Callable[..., None]) -> None:
    refused(run("licence", "nothing"), "'nothing' is no release", "sd3.5-large")


def test_models_are_listed_as_a_table_and_as_json(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    (home / "models").mkdir(parents=True)
    (home / "models" / "odd\x1bname.ckpt").write_bytes(b"no model")
    shown = run("models")
    assert shown.exit_code == 0, shown.output
    lines = shown.stdout.splitlines()
    assert lines[0].split() == ["NAME", "WHAT", "SIZE", "TYPE", "LICENCE", "SHA-256", "WHERE"]
    assert any(line.startswith("sdxl ") and line.endswith("  not here") for line in lines)
    assert "odd name" in shown.stdout and "\x1b" not in shown.stdout and "is no model file" in shown.stdout
    records = json.loads(run("models", "--json").stdout)
    assert {record["name"] for record in records} >= {"emoji", "sd1.5", "odd\x1bname"}
    assert all(set(record) >= {"family", "size", "dtype", "licence", "sha256", "path"} for record in records)


def test_hashes_are_computed_when_asked_for(run: Run, home: Path) -> None:
    (home / "models").mkdir(parents=True)
    (home / "models" / "large.ckpt").write_bytes(bytes(hashes.LARGE))
    (home / "models" / "small.ckpt").write_bytes(b"small")
    assert run("models", "--hash").exit_code == 0
    known = {record["name"]: record["sha256"] for record in json.loads(run("models", "--json").stdout)}
    assert known["large"] == hashlib.sha256(bytes(hashes.LARGE)).hexdigest()


def test_a_broken_configuration_is_one_line(run: Run, refused: Callable[..., None], home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text("models = 3")
    refused(run("models"), "config.toml is no list of folders")
    (home / "config.toml").write_text("colour = 3")
    refused(run("models"), "and nothing else")
    (home / "config.toml").write_text("models =")
    refused(run("models"), "config.toml is not valid TOML")
