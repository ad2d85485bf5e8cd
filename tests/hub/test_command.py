"""`sfumato pull` at the command line, and that nothing else uses the network."""

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from sfumato.cli.main import app
from sfumato.hub import licence_acceptance

Hub = Any  # tests/hub/conftest.py
Run = Callable[..., Result]
NAME = "v1-5-pruned-emaonly.safetensors"


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words), prog_name="sfumato")


def test_the_licence_is_shown_and_must_be_accepted(hub: Hub, home: Path) -> None:
    refused = run("pull", "sd1.5")  # no terminal: nobody can be asked
    assert refused.exit_code == 2 and refused.stdout == ""
    assert "Not allowed:\n  - " in refused.stderr
    assert refused.stderr.splitlines()[-1].startswith("error: sd1.5 comes under CreativeML Open RAIL-M")
    assert hub.requests == [] and not licence_acceptance.record_file().exists()

    done = run("pull", "sd1.5", "--accept-licence")
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{home / 'models' / NAME}\n"
    assert f"{NAME} (" in done.stderr
    assert "CreativeML" not in run("pull", "sd1.5").stderr  # nor is it shown again


def test_faults_are_one_line(hub: Hub) -> None:
    hub.refuse["stable-diffusion-v1-5/stable-diffusion-v1-5"] = (403, "GatedRepo")
    failed = run("pull", "sd1.5", "--yes")
    assert failed.exit_code == 2 and failed.stdout == ""
    assert re.fullmatch(r"error: the hub does not give .*HF_TOKEN, and pull again", failed.stderr.splitlines()[-1])
    assert run("pull", "sd9").stderr.startswith("error: there is no release 'sd9'")


def test_ctrl_c_says_how_to_go_on(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sfumato.cli.pull.Watch.report", stop)
    stopped = run("pull", "sd1.5", "--yes")
    assert stopped.exit_code == 130
    assert stopped.stderr.splitlines()[-1] == "stopped; the same command goes on where it was"


def test_a_real_process_is_stopped_and_goes_on(hub: Hub, home: Path) -> None:
    data = bytes(range(256)) * 8192  # 2 MiB
    hub.repositories["stabilityai/sd-vae-ft-ema-original"] = {"vae-ft-ema-560000-ema-pruned.safetensors": data}
    command = [sys.executable, "-m", "sfumato", "pull", "vae-ft-ema", "--yes"]
    hub.on_chunk = lambda: time.sleep(0.05)
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background they inherit that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
    ) as process:
        partial = home / "models" / ".partial"
        while not any(path.stat().st_size for path in partial.glob("*") if path.suffix != ".lock"):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=600)
    assert process.returncode == 130 and "Traceback" not in errors
    kept = sum(path.stat().st_size for path in partial.glob("*"))
    assert 0 < kept < len(data)
    hub.on_chunk = lambda: None
    done = run("pull", "vae-ft-ema")
    assert done.exit_code == 0, done.output
    assert Path(done.stdout.strip()).read_bytes() == data
    assert hub.downloads()[0] is None and int(hub.downloads()[-1].removeprefix("bytes=").rstrip("-")) > 0


@pytest.mark.parametrize(
    "words",
    [
        "--offline pull sd1.5 --yes",
        "--offline data build emoji out --cache cache",
        "txt2img cat --model sd1.5",
        "models",
        "licence sdxl",
        "inspect nowhere",
    ],
)
def test_nothing_connects(words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`--offline` keeps the two commands that download from it; no other ever does."""
    tried = []

    def guard(*args: object, **options: object) -> None:
        tried.append(args)
        raise OSError("the network was used")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, guard)
    for name in ("create_connection", "getaddrinfo", "gethostbyname"):
        monkeypatch.setattr(socket, name, guard)
    monkeypatch.setattr(subprocess, "run", guard)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("SFUMATO_OFFLINE", "")  # restored afterwards, as --offline sets it
    monkeypatch.chdir(tmp_path)
    done = run(*words.split())
    assert tried == [] and "the network was used" not in done.output
    if "--offline" in words:
        assert done.exit_code == 2 and "which offline mode forbids" in done.stderr
    elif "--model" in words:
        assert done.exit_code == 2 and "`sfumato pull sd1.5` downloads it (4.3 GB)" in done.stderr
