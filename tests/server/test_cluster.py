"""The server on a cluster of Ray, two replicas on one machine: jobs outlive a replica and the web process."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.conftest import serving
from sfumato.errors import SfumatoError
from sfumato.images.files import open_image
from sfumato.server.config import Config

pytest.importorskip("ray", reason="needs the extra [cluster]")
pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
TOKEN = "a token of a test, long enough"
PATIENCE = 240.0  # seconds; a machine that is busy is slow
QUICK = {"steps": 3, "width": 64, "height": 64}
LONG = {**QUICK, "steps": 400}


@contextmanager
def cluster(folder: Path) -> Iterator[tuple[int, httpx.Client]]:
    """`serve run` with our file on a cluster of its own: its process id, and a client of the server."""
    import yaml

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = yaml.safe_load((ROOT / "deploy" / "ray.yaml").read_text(encoding="utf-8"))
    settings["http_options"]["port"] = port
    settings["applications"][0]["args"] |= {"folder": str(folder), "exact": True, "at_once": 1}
    (folder / "ray.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    short = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # Ray's sockets are in it, and their paths must be short
    ray = {"RAY_ADDRESS": "local", "RAY_TMPDIR": short, "RAY_USAGE_STATS_ENABLED": "0"}
    env = {**os.environ, **ray, "SFUMATO_TOKEN": TOKEN}
    with (folder / "log").open("wb") as log:
        command = [Path(sys.executable).with_name("serve"), "run", folder / "ray.yaml"]
        running = subprocess.Popen(command, stdout=log, stderr=log, env=env, start_new_session=True)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
            client.headers["Authorization"] = f"Bearer {TOKEN}"
            yield running.pid, client
    finally:
        started = processes(running.pid)
        running.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            running.wait(60)
        for one in (running.pid, *started):
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        running.wait()
        shutil.rmtree(short, ignore_errors=True)


def processes(root: int, name: str = "") -> list[int]:
    """The processes that descend from one, and whose command line has a name."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError, TypeError):
            if entry.name.isdigit():
                parent = int(re.search(r"^PPid:\s+(\d+)", (entry / "status").read_text(), re.M)[1])  # type: ignore[index]
                children.setdefault(parent, []).append(int(entry.name))
    found, left = [], [root]
    while left:
        left += (more := children.get(left.pop(), []))
        found += more
    return [one for one in found if name in Path(f"/proc/{one}/cmdline").read_text(errors="replace")]


def until(done: Callable[[], Any], log: Path) -> Any:
    """Waits until a call returns something true, and returns it; errors of connections are waited out."""
    end = time.monotonic() + PATIENCE
    while True:
        with suppress(httpx.TransportError, OSError):
            if found := done():
                return found
        assert time.monotonic() < end, log.read_text(errors="replace")[-5000:]
        time.sleep(0.2)


def submit(client: httpx.Client, seed: int, **options: Any) -> str:
    reply = client.post("/api/jobs", json={"prompt": "a cat", "options": {**QUICK, "seed": seed, **options}})
    assert reply.status_code == 201, reply.text
    return reply.json()["id"]


def pictures(client: httpx.Client, jobs: list[str], log: Path) -> list[bytes]:
    """The pixels of the jobs' pictures, when all are done."""
    asked = {job: until(lambda job=job: ended(client, job), log) for job in jobs}
    assert [(one["state"], one["error"]) for one in asked.values()] == [("done", None)] * len(jobs)
    files = [client.get(f"/api/jobs/{job}/pictures/0").content for job in jobs]
    return [open_image(io.BytesIO(content)).tobytes() for content in files]


def ended(client: httpx.Client, job: str) -> dict[str, Any] | None:
    found = client.get(f"/api/jobs/{job}")
    return found.json() if found.status_code == 200 and found.json()["state"] not in ("queued", "running") else None


def drawing(client: httpx.Client, jobs: list[str]) -> bool:
    return all(client.get(f"/api/jobs/{job}").json()["progress"] > 0 for job in jobs)


def test_a_cluster_draws_what_one_machine_draws_and_loses_no_job(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with serving(Config(folder=tmp_path / "alone", exact=True)) as address, httpx.Client(base_url=address) as client:
        alone = pictures(client, [submit(client, seed) for seed in range(6)], log)
    with cluster(tmp_path) as (server, client):
        ready = "sfumato_workers_ready 2"
        until(lambda: ready in client.get("/metrics").text, log)
        assert httpx.get(client.base_url.join("/api/jobs")).status_code == 401
        long = [submit(client, seed, **LONG) for seed in (10, 11)]
        until(lambda: drawing(client, long), log)  # each replica draws one job at a time: these are two
        assert len(processes(server, "ServeReplica:sfumato:Drawer")) == 2
        os.kill(processes(server, "ServeReplica:sfumato:Drawer")[0], signal.SIGKILL)
        quick = [submit(client, seed) for seed in range(6)]
        assert pictures(client, quick, log) == alone
        until(lambda: ready in client.get("/metrics").text, log)  # in place of the dead one there is another
        later = submit(client, 0, **LONG)
        (web,) = processes(server, "ServeReplica:sfumato:Web")
        os.kill(web, signal.SIGKILL)
        assert len(pictures(client, [*long, later], log)) == 3
        assert pictures(client, quick, log) == alone


def test_what_a_cluster_cannot_do_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sfumato.server import cluster as ours

    monkeypatch.delenv("SFUMATO_TOKEN", raising=False)
    with pytest.raises(SfumatoError, match="--token"):
        ours.app({"folder": str(tmp_path)})
    assert ours.ClusterConfig.of({"folder": str(tmp_path), "replicas": "3", "exact": "true"}).devices == (None,) * 3
    for given, why in (
        ({"port": 80}, "serve start"), ({"replicas": 0}, "1 or more"), ({"folders": "x"}, "folders"),
        ({"exact": "perhaps"}, "exact"),
    ):  # fmt: skip
        with pytest.raises(SfumatoError, match=why):
            ours.ClusterConfig.of(given)
    path, mark = ours._read_mark(tmp_path)
    ours._check_mark(path, mark)
    for other in (path, str(tmp_path / "nowhere")):
        with pytest.raises(SfumatoError, match="does not see"):
            ours._check_mark(other, "other")
