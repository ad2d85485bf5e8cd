"""The guards and the policies together, on a server that draws nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from sfumato.errors import SfumatoError
from sfumato.hub import local_models
from sfumato.server.app import create_app
from sfumato.server.config import Config
from sfumato.server.jobs.job import JobRequest
from sfumato.server.safety import names
from sfumato.server.safety.names import Forbidden, check_names
from sfumato.server.safety.users import add_user

ADA, BOB = ("ada", "correct horse"), ("bob", "battery staple")
JOB = {"prompt": "a cat", "options": {"steps": 2}}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("server")
    for name, password in (ADA, BOB):
        add_user(folder / "users", name, password)
    config = Config(folder=folder, users=folder / "users", devices=(), drain=0)
    with TestClient(create_app(config), base_url="http://127.0.0.1:7860") as one:
        yield one


def test_users_see_only_their_own(client: TestClient) -> None:
    assert client.post("/api/jobs", json=JOB).status_code == 401
    job = client.post("/api/jobs", json=JOB, auth=ADA).json()["id"]
    assert client.get(f"/api/jobs/{job}", auth=ADA).status_code == 200
    for path in ("", "/events", "/pictures/0", "/preview"):
        assert client.get(f"/api/jobs/{job}{path}", auth=BOB).status_code == 404
    for what in ("cancel", "skip", "retry"):
        assert client.post(f"/api/jobs/{job}/{what}", auth=BOB).status_code == 404
    assert client.get("/api/jobs", auth=BOB).json() == []
    assert [one["id"] for one in client.get("/api/jobs", auth=ADA).json()] == [job]


def test_every_dialect_asks_who_it_is(client: TestClient) -> None:
    key = {"Authorization": "Bearer " + ":".join(BOB)}
    for path in ("/v1/models/dall-e-3", "/sdapi/v1/latent-upscale-modes", "/metrics", "/docs"):
        assert client.get(path).status_code == 401
        assert client.get(path, headers=key).status_code == 200
    assert client.get("/v1/models").json()["error"]["code"] == "invalid_api_key"
    assert client.get("/v1/images/files/" + "0" * 32 + "-0.png?until=9999999999&key=x").status_code == 404


def test_a_form_signs_in(client: TestClient) -> None:
    """As the web UI's toolkit has it: a name and a password as a form, and a cookie in return."""
    assert client.post("/login", data={"username": "ada", "password": "wrong"}).status_code == 400
    assert client.post("/login", data={"username": "ada"}).status_code == 422
    reply = client.post("/login", data=dict(zip(("username", "password"), ADA, strict=True)))
    assert (reply.status_code, reply.json()) == (200, {"success": True}) and ADA[1] not in reply.headers["set-cookie"]
    assert client.get("/sdapi/v1/latent-upscale-modes").status_code == 200
    client.cookies.clear()
    assert client.get("/sdapi/v1/latent-upscale-modes").status_code == 401


@pytest.mark.parametrize(
    "options",
    [{"n": 10_000}, {"width": 8192, "height": 8192, "n": 9}, {"width": 1 << 40}, {"n": 0}, {"steps": 1 << 70}],
)
def test_giant_requests_become_no_jobs(client: TestClient, options: dict) -> None:
    before = client.get("/api/jobs", auth=BOB).json()
    assert client.post("/api/jobs", json={"prompt": "a cat", "options": options}, auth=BOB).status_code == 400
    assert client.get("/api/jobs", auth=BOB).json() == before


def test_models_without_an_accepted_licence_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    known = local_models.RELEASES[0]
    monkeypatch.setattr(names, "named_file", lambda *_: tmp_path)
    monkeypatch.setattr(names, "release_of", lambda _: known)
    monkeypatch.setattr(names, "accepted", lambda release: release is not known)
    check_names(JobRequest(model="x"))
    with pytest.raises(Forbidden, match="pull"):
        check_names(JobRequest(model="x"), licences=True)
    monkeypatch.setattr(names, "accepted", lambda release: True)
    check_names(JobRequest(model="x"), licences=True)


def test_a_full_disk_is_named(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3

    from sfumato.server.jobs.store import Store

    def full(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Store, "add", full)
    reply = client.post("/api/jobs", json=JOB, auth=BOB)
    assert reply.status_code == 507 and "disk" in reply.json()["error"]
    monkeypatch.undo()
    assert client.post("/api/jobs", json=JOB, auth=BOB).status_code == 201


def test_a_checker_of_another_place_is_no_name() -> None:
    with pytest.raises(SfumatoError):
        check_names(JobRequest(options={"safety": "/etc/passwd"}))
