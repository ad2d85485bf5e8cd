"""A home of the test's own, models to put into it, and a hub on loopback to fetch them from."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.utils import close_session

from sfumato.checkpoint.formats import safetensors_file
from sfumato.families import sd1
from sfumato.hub import catalogue, local_models, transfer
from sfumato.hub.catalogue import File


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """sfumato's one folder, and an empty Hugging Face cache beside it."""
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "home"


@pytest.fixture
def put() -> Callable[[Path], Path]:
    """Write a file with the names of a 1.x model's first tensors: enough to be known by."""

    def put(path: Path) -> Path:
        tensors = {
            "model.diffusion_model.input_blocks.0.0.weight": torch.zeros(4, 4, 3, 3),
            "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": torch.zeros(4, 768),
            f"{sd1.TEXT}text_model.final_layer_norm.weight": torch.zeros(768),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        safetensors_file.write(path, {k: (tuple(v.shape), v.dtype) for k, v in tensors.items()}, tensors.__getitem__)
        return path

    return put


DATA = bytes(range(256)) * 1024  # 256 KiB
REPOSITORY = "stable-diffusion-v1-5/stable-diffusion-v1-5"
NAME = "v1-5-pruned-emaonly.safetensors"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".safetensors", ".ckpt", ".bin")


class Hub:
    """`repositories[repository][file]` is what there is; the other fields are faults.

    `break_after` bytes of each answer the connection ends, `breaks` times. `refuse` maps a repository to a status and
    an error code of the hub. `damaged` files arrive with their first byte changed. `hang` seconds pass before an answer
    to a download. `ignore_range` sends every file from its beginning. `extra` bytes follow a file; a `silent` hub sends
    no bytes at all.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.refuse: dict[str, tuple[int, str]] = {}
        self.damaged: set[str] = set()
        self.break_after = 0
        self.breaks = 0
        self.hang = 0.0
        self.ignore_range = False
        self.extra = b""
        self.silent = False
        self.on_chunk: Callable[[], None] = lambda: None
        self.requests: list[tuple[str, str | None, str | None]] = []
        self.address = ""

    def downloads(self) -> list[str | None]:
        """The ranges that were asked for, one a download."""
        return [range_ for path, range_, _ in self.requests if "/resolve/" in path]


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            hub.requests.append((path, self.headers.get("Range"), self.headers.get("Authorization")))
            repository = match[1] if (match := re.match(r"/(?:api/models/)?([^/]+/[^/]+)", path)) else ""
            if repository in hub.refuse and ("/resolve/" in path or hub.refuse[repository][0] != 403):
                status, code = hub.refuse[repository]
                self.answer(status, b"", {"X-Error-Code": code})
            elif repository not in hub.repositories:
                self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
            elif path.startswith("/api/models/"):
                self.answer(200, json.dumps(describe(repository, hub.repositories[repository])).encode(), {})
            else:
                self.send(hub.repositories[repository].get(path.partition(f"/resolve/{COMMIT}/")[2]))

        def send(self, data: bytes | None) -> None:
            if data is None:
                self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})
                return
            time.sleep(hub.hang)
            range_ = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            start = int(range_[1]) if range_ and not hub.ignore_range else 0
            if self.path.rpartition("/")[2] in hub.damaged:
                data = bytes([data[0] ^ 1]) + data[1:]
            headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT}
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self.answer(206 if start else 200, b"" if hub.silent else data[start:] + hub.extra, headers)

        def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            if hub.breaks and len(body) > hub.break_after and "/resolve/" in self.path:
                hub.breaks -= 1
                self.wfile.write(body[: hub.break_after])
                self.close_connection = True
            else:
                for begin in range(0, len(body), 1 << 16):
                    self.wfile.write(body[begin : begin + (1 << 16)])
                    hub.on_chunk()

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A client that hangs up is part of the tests."""

    server = Server(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def describe(repository: str, files: dict[str, bytes]) -> dict[str, object]:
    """What the hub says of a repository: large files with their SHA-256, the others with git's hash."""
    siblings = []
    for name, data in files.items():
        blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
        entry: dict[str, object] = {"rfilename": name, "size": len(data), "blobId": blob}
        if name.endswith(LARGE):
            entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 100}
        siblings.append(entry)
    return {"id": repository, "sha": COMMIT, "siblings": siblings}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that holds a file for 1.5, and a catalogue that knows the file's hash."""
    with serve(Hub()) as one:
        one.repositories[REPOSITORY] = {NAME: DATA, "README.md": b"text"}
        monkeypatch.setenv("HF_ENDPOINT", one.address)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.setenv("SFUMATO_OFFLINE", "")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 5)
        monkeypatch.setattr(transfer, "PAUSE", 0.001)
        known = catalogue.release("sd1.5")
        assert known is not None
        here = replace(known, file=File(NAME, len(DATA), hashlib.sha256(DATA).hexdigest()))
        changed = tuple(here if entry == known else entry for entry in catalogue.RELEASES)
        for module in (catalogue, local_models):
            monkeypatch.setattr(module, "RELEASES", changed)
        close_session()
        yield one
        close_session()
