"""What is left when the server, or its worker, is killed: every job, once."""

from __future__ import annotations

import os
import random
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from sfumato.errors import SfumatoError
from sfumato.server.jobs.store import Store
from sfumato.server.serve import locked

QUICK = {"steps": 2, "width": 64, "height": 64}
PATIENCE = 240.0  # seconds; a machine that is busy is slow


@contextmanager
def process(folder: Path) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """A server as a process of its own, and a client of it."""
    command = [sys.executable, "-m", "sfumato", "serve", "--port", "0", "--folder", str(folder), "--device", "cpu"]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert running.stderr is not None
        address = None
        for line in running.stderr:
            if (found := re.search(r"http://\S+:\d+", line)) is not None:
                address = found[0]
                break
        assert address is not None, "the server did not start"
        with httpx.Client(base_url=address, timeout=PATIENCE) as client:
            yield running, client
    finally:
        running.kill()
        running.wait()


def submit(client: httpx.Client, **options: object) -> str:
    reply = client.post("/api/jobs", json={"prompt": "a cat", "options": {**QUICK, **options}})
    assert reply.status_code == 201, reply.text
    return reply.json()["id"]


def wait_for(client: httpx.Client, job: str) -> dict:
    until = time.monotonic() + PATIENCE
    while (found := client.get(f"/api/jobs/{job}").json())["state"] in ("queued", "running"):
        assert time.monotonic() < until, found
        time.sleep(0.1)
    return found


def worker_of(server: int) -> int:
    """The process id of a server's worker."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int(re.search(r"^PPid:\s+(\d+)", (entry / "status").read_text(), re.M)[1])  # type: ignore[index]
                if parent == server and b"sfumato.server.worker" in (entry / "cmdline").read_bytes():
                    return int(entry.name)
            except (OSError, TypeError):
                continue
    raise AssertionError("the server has no worker")


def killed(folder: Path, times: int, jobs: int, seed: int) -> None:
    """Kills a server with so many jobs queued, so many times, then lets it end them; none is lost, none drawn twice."""
    chance, given, files = random.Random(seed), list[str](), dict[str, int]()
    for _ in range(times):
        with process(folder) as (server, client):
            while len(given) < jobs:
                given.append(submit(client, seed=len(given)))
            time.sleep(chance.uniform(0, 3))
            server.send_signal(signal.SIGKILL)
            server.wait()
        for path in (folder / "outputs").rglob("*.png"):  # a finished picture is kept as it is
            changed = path.stat().st_mtime_ns
            with sqlite3.connect(folder / "jobs.sqlite") as database:
                told = database.execute("select 1 from pictures where file like ?", ("%" + path.name,)).fetchone()
            if told:
                assert files.setdefault(path.name, changed) == changed
    with process(folder) as (_, client):
        ended = [wait_for(client, job) for job in given]
        assert [one["id"] for one in client.get("/api/jobs", params={"count": 500}).json()][::-1] == given
    assert [(one["state"], one["error"], len(one["pictures"])) for one in ended] == [("done", None, 1)] * jobs
    with Store(folder / "jobs.sqlite") as store:
        pictures = [picture.file for job in given for picture in store.get(job).pictures]
    assert len(pictures) == len({*pictures}) and all((folder / "outputs" / file).is_file() for file in pictures)


def test_a_killed_server_loses_no_job(tmp_path: Path) -> None:
    killed(tmp_path, times=3, jobs=20, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_a_server_that_is_killed_again_and_again_loses_no_job(tmp_path: Path, seed: int) -> None:
    killed(tmp_path, times=5, jobs=20, seed=seed)


def test_after_a_worker_that_died_jobs_go_on(tmp_path: Path) -> None:
    with process(tmp_path) as (server, client):
        assert wait_for(client, submit(client))["state"] == "done"
        long = submit(client, steps=200)
        while client.get(f"/api/jobs/{long}").json()["progress"] == 0:
            time.sleep(0.05)
        os.kill(worker_of(server.pid), signal.SIGKILL)
        assert wait_for(client, submit(client))["state"] == "done"
        assert wait_for(client, long)["state"] == "done"


def test_after_a_job_that_ran_out_of_memory_jobs_go_on(tmp_path: Path) -> None:
    with process(tmp_path) as (server, client):
        assert wait_for(client, submit(client))["state"] == "done"
        worker = worker_of(server.pid)
        used = int(Path(f"/proc/{worker}/statm").read_text().split()[0]) * resource.getpagesize()
        resource.prlimit(worker, resource.RLIMIT_AS, (used + (160 << 20), resource.RLIM_INFINITY))
        large = wait_for(client, submit(client, width=1024, height=1024))
        assert large["state"] == "failed" and "memory" in large["error"]
        after = wait_for(client, submit(client))
        assert after["state"] == "done", after["error"]


@pytest.mark.slow
def test_a_worker_that_stands_still_is_started_anew(tmp_path: Path) -> None:
    with process(tmp_path) as (server, client):
        assert wait_for(client, submit(client))["state"] == "done"
        os.kill(worker_of(server.pid), signal.SIGSTOP)
        assert wait_for(client, submit(client))["state"] == "done"


def test_a_second_server_on_the_same_folder_says_so(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(SfumatoError, match="another server uses"), locked(tmp_path):
        pass
