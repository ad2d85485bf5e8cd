"""What is found out about a machine, and the reference data that ships."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from sfumato import user_config
from sfumato.hub.local_models import embedded_model
from sfumato.pipeline.model import model_hash
from sfumato.runtime import machine
from sfumato.verify import doctor
from sfumato.verify.folder import SELFTEST, find_cases

Run = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path))
    return tmp_path


def test_the_reference_is_of_the_model_that_ships() -> None:
    stored = json.loads((user_config.shipped(SELFTEST) / "pictures" / "pictures.json").read_bytes())
    assert stored["model"] == model_hash(embedded_model()), "run `python tools/selftest.py` after a change of the model"


def test_this_machine_passes(run: Run, home: Path) -> None:
    assert not doctor.passed_before()
    shown = run("doctor", "--json")
    assert shown.exit_code == 0, shown.output
    found = json.loads(shown.stdout)
    assert found["fine"] and all(check["passed"] for check in found["test"]["checks"])
    assert {check["name"].split("/")[0] for check in found["test"]["checks"]} == {"pictures", "samplers", "text"}
    assert found["machine"]["devices"][-1]["name"] == "cpu" and found["machine"]["memory"] > 1 << 28
    assert found["models"][0]["name"] == "emoji"
    assert doctor.passed_before()


def test_what_is_wrong_is_found(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture that is another, a model that is another, a number that is another."""
    shutil.copytree(user_config.shipped(SELFTEST), home / "reference")
    path = home / "reference" / "pictures" / "pictures.json"
    stored = json.loads(path.read_bytes())
    pixels = bytearray(base64.b64decode(stored["pictures"]["heart"]["pixels"]))
    pixels[100] ^= 16
    stored["pictures"] = {"heart": {**stored["pictures"]["heart"], "pixels": base64.b64encode(pixels).decode()}}
    path.write_text(json.dumps(stored))
    cases = {case.path: case for case in find_cases(home / "reference")}
    assert not cases["pictures/heart"].run().passed
    path.write_text(json.dumps({**stored, "model": "0123456789"}))
    cases = {case.path: case for case in find_cases(home / "reference")}
    assert "0123456789" in cases["pictures/heart"].run().reason

    broken = doctor.SelfTest((doctor.Check("samplers/euler", False, "1.0e+00, tolerance 1.0e-08"),), 0.1)
    monkeypatch.setattr(doctor, "self_test", lambda watch: broken)
    shown = run("doctor")
    assert shown.exit_code == 1 and "FAILED  samplers/euler  1.0e+00" in shown.stdout


def test_settings_that_cannot_be_read_are_told(run: Run, home: Path) -> None:
    (home / "config.toml").write_text("models = 3")
    shown = run("doctor", "--no-test")
    assert shown.exit_code == 1 and "problem" in shown.stdout and "config.toml" in shown.stdout


def test_nobody_is_named(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SFUMATO_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "ada"))
    shown = run("doctor", "--no-test").stdout
    assert "data ~/.local/share/sfumato" in shown and "ada" not in shown


def test_a_container_has_a_limit_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("max\n")
    whole = machine.measure()
    (tmp_path / "memory.max").write_text("400000000\n")
    (tmp_path / "memory.current").write_text("300000000\n")
    limited = machine.measure()
    assert (limited.memory, limited.free) == (400_000_000, 100_000_000)
    assert whole.memory is not None and whole.memory > 400_000_000


@pytest.mark.parametrize(
    ("variables", "screen"),
    [({}, False), ({"DISPLAY": ":0"}, True), ({"DISPLAY": ":10", "SSH_TTY": "/dev/pts/1"}, False)],
)
def test_a_page_is_opened_only_where_it_is_seen(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], screen: bool
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(machine.sys, "platform", "linux")
    assert machine.has_screen() == screen
