"""`sfumato up`: what it says and does before the server runs, and the models that it proposes."""

from __future__ import annotations

import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from sfumato.hub import proposals
from sfumato.runtime.machine import Device
from sfumato.server.serve import running

Run = Callable[..., Result]
GIGABYTE = 10**9


def device(free: float, name: str = "cuda:0", dtype: str = "float16") -> Device:
    return Device(name, "a device", int(free), int(free), dtype)


@pytest.mark.parametrize(("free", "names"), [(24, ["sdxl", "sd2.1-base", "sd1.5"]), (3.5, ["sd1.5"]), (1, [])])
def test_what_fits_is_proposed(monkeypatch: pytest.MonkeyPatch, free: float, names: list[str]) -> None:
    monkeypatch.setattr(proposals.user_config, "offline", lambda: False)
    monkeypatch.setattr(proposals, "free_disk", lambda folder: 100 * GIGABYTE)
    found = proposals.proposals(device(free * GIGABYTE))
    assert [one.name for one in found] == names
    assert all(one.memory <= 0.9 * free * GIGABYTE and one.size > 4 * GIGABYTE and not one.here for one in found)
    monkeypatch.setattr(proposals, "free_disk", lambda folder: GIGABYTE)
    assert not proposals.proposals(device(free * GIGABYTE)), "there is no room for any of them"


def test_offline_nothing_is_proposed_that_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposals.user_config, "offline", lambda: True)
    assert not proposals.proposals(device(24 * GIGABYTE))
    own = proposals.embedded(device(24 * GIGABYTE, "cpu", "float32"))
    assert own.here and own.name == "emoji" and 25e6 < own.size < own.memory < GIGABYTE


def test_up_serves_and_a_second_one_finds_it(run: Run, tmp_path: Path) -> None:
    """On a port that is taken, too: another is chosen."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "sfumato", "up", "--no-open", "--no-test"]
        command += ["--port", str(port), "--folder", str(tmp_path)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            assert process.stderr is not None
            said = []
            while "sfumato is up" not in (said or [""])[-1]:
                said.append(process.stderr.readline())
                assert said[-1], "".join(said)
            address = said[-1].split()[3]
            assert address.startswith("http://127.0.0.1:") and not address.endswith(f":{port}")
            assert "this machine: cpu" in said[0]
            assert urllib.request.urlopen(f"{address}/livez", timeout=30).read() == b"ok"
            assert running(tmp_path) == address
            assert "model: emoji, licence sfumato-emoji, is here" in process.stderr.readline()
            again = run("up", "--folder", str(tmp_path), "--no-open")
            assert again.exit_code == 0 and again.stderr == f"sfumato is up already: {address}\n"
        finally:
            process.terminate()
            process.wait(60)
    assert running(tmp_path) is None


def test_a_folder_without_a_server_has_none(tmp_path: Path) -> None:
    assert running(tmp_path) is None and running(tmp_path / "nowhere") is None
    assert not any(tmp_path.iterdir())
