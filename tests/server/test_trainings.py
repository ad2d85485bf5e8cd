"""Trainings that the page starts: the trainer itself runs, in a few steps."""

from __future__ import annotations

import base64
import io
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints
from unittest.mock import Mock

import httpx
import pytest
from PIL import Image, ImageDraw

import tiny
from server.conftest import serving
from sfumato.hub.local_models import ROOMS
from sfumato.loading.save import save_folder
from sfumato.server.config import Config
from sfumato.server.trainings import runner
from sfumato.server.trainings.offers import OFFERS, Hint
from sfumato.server.trainings.runner import Trainings
from sfumato.server.trainings.training import RECORD, Training, state_of
from sfumato.train.hints import HintTraining
from tiny.models import TINY, random_model


@pytest.fixture(scope="module")
def at_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, Path]]:
    """A client of a server with a home of its own, where trained LoRAs land."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SFUMATO_HOME", str(home))
        with serving(Config(folder=home / "server")) as address, httpx.Client(base_url=address, timeout=120) as client:
            yield client, home


def sent(client: httpx.Client, colour: str, format: str = "PNG") -> str:
    image, file = Image.new("RGB", (64, 64), "white"), io.BytesIO()
    ImageDraw.Draw(image).ellipse((12, 12, 52, 52), colour)
    image.save(file, format)
    return client.post("/api/pictures", json={"picture": base64.b64encode(file.getvalue()).decode()}).json()["name"]


def asked(client: httpx.Client, name: str, **more: object) -> httpx.Response:
    names = sent(client, "red"), sent(client, "blue", "BMP")
    given = [{"picture": one, "caption": "a ball"} for one in names]
    return client.post("/api/trainings", json={"name": name, "pictures": given, **more})


def ended(client: httpx.Client, training: str) -> dict:
    until = time.monotonic() + 240
    while time.monotonic() < until:
        found = next(one for one in client.get("/api/trainings").json() if one["id"] == training)
        if found["state"] != "running":
            return found
        time.sleep(0.2)
    raise AssertionError(found)


def test_a_lora_is_learnt_and_drawn_with(at_home: tuple[httpx.Client, Path]) -> None:
    client, home = at_home
    begun = asked(client, "balls", steps=4).json()
    assert begun["state"] == "running" and begun["pictures"] == 2
    refused = asked(client, "others", steps=4)
    assert refused.status_code == 400 and "one at a time" in refused.json()["error"]
    assert client.delete(f"/api/trainings/{begun['id']}").status_code == 400
    done = ended(client, begun["id"])
    assert (done["state"], done["step"], done["file"]) == ("done", 4, "balls"), done
    assert [step for step, _ in done["curves"]["loss"]] == [1, 2, 3, 4]
    assert client.get(list(done["samples"].values())[-1]).headers["content-type"] == "image/png"
    assert "<h2>Curves</h2>" in client.get(done["report"]).text
    assert "balls" in [one["name"] for one in client.get("/api/models").json() if one["kind"] == "lora"]
    options = {"steps": 2, "width": 64, "height": 64, "lora": ["balls:1"]}
    job = client.post("/api/jobs", json={"prompt": "a ball", "options": options}).json()["id"]
    client.get(f"/api/jobs/{job}/events")
    assert client.get(f"/api/jobs/{job}").json()["state"] == "done"
    assert asked(client, "balls").status_code == 400
    assert client.delete(f"/api/trainings/{begun['id']}").status_code == 204
    assert client.get("/api/trainings").json() == [] and (home / "models" / "Lora" / "balls.safetensors").is_file()


WAYS = {
    "dreambooth": ("lora", {"word": "sks ball", "like": "ball"}), "full": ("model", {}), "inpaint": ("model", {}),
    "textual-inversion": ("embedding", {"like": "red"}), "hypernetwork": ("hypernetwork", {}), "lcm": ("lora", {}),
    "controlnet": ("controlnet", {"hint": "scribble"}), "t2i-adapter": ("controlnet", {"hint": "lineart"}),
}  # fmt: skip


def test_every_method_of_pictures_and_a_model_is_offered(at_home: tuple[httpx.Client, Path]) -> None:
    client, _ = at_home
    listed = {one["name"]: one for one in client.get("/api/trainings/methods").json()}
    assert {name: one["result"] for name, one in listed.items()} == {"lora": "lora"} | {
        name: result for name, (result, _) in WAYS.items()
    }
    assert listed.keys() == OFFERS.keys() and {one["result"] for one in listed.values()} <= {*ROOMS.values()}
    lacking = {name for name, one in listed.items() if one["misfit"]}
    assert lacking == {"hypernetwork", "textual-inversion", "t2i-adapter", "inpaint"}
    seeing = client.get("/api/trainings/methods?model=emoji-inpainting").json()
    assert all("from a picture" in one["misfit"] for one in seeing if one["name"] != "inpaint")
    assert set(get_args(Hint)) <= {*get_args(get_type_hints(HintTraining)["hint"])}


@pytest.mark.slow
@pytest.mark.parametrize("method", WAYS)
def test_what_each_method_makes_is_listed_and_drawn_with(
    at_home: tuple[httpx.Client, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    client, home = at_home
    offer, small = OFFERS[method], {"data.resolution": 64, "sheet_steps": 2}
    small |= {"class_pictures": 2, "class_steps": 2} if method == "dreambooth" else {}
    monkeypatch.setitem(OFFERS, method, replace(offer, keys=lambda one: {**offer.keys(one), **small}))
    if not (folder := home / "models" / "Stable-diffusion" / "tiny").is_dir():
        model = random_model(TINY)
        tiny.WORDS.save(tmp_path)
        save_folder(folder, model.spec, model.networks, tokenizer_folder=tmp_path)
    assert not any(one["misfit"] for one in client.get("/api/trainings/methods?model=tiny").json())
    result, more = WAYS[method]
    begun = asked(client, f"my-{method}", method=method, model="tiny", steps=2, **more)
    assert begun.status_code == 201, begun.text
    done = ended(client, begun.json()["id"])
    assert (done["state"], done["file"], done["result"]) == ("done", f"my-{method}", result), done
    assert done["curves"]["loss"] and done["samples"] and done["report"]
    found = [one for one in client.get("/api/models").json() if one["name"] == done["file"]]
    assert [one["kind"] for one in found] == [result]
    body = {"prompt": "a red heart", "model": "tiny", "options": {"steps": 2, "width": 64, "height": 64}}
    if result == "model":
        body["model"] = done["file"]
    elif result == "embedding":
        body["prompt"] = f"a {done['file']}"
    elif result == "controlnet":
        body["options"]["control"] = [{"model": done["file"], "image": sent(client, "red"), "hint": more["hint"]}]
    else:
        body["options"][result] = [f"{done['file']}:1"]
    if method == "inpaint":
        body |= {"kind": "inpaint", "pictures": {name: sent(client, "red") for name in ("image", "mask")}}
    job = client.post("/api/jobs", json=body)
    assert job.status_code == 201, job.text
    client.get(f"/api/jobs/{job.json()['id']}/events")
    drawn = client.get(f"/api/jobs/{job.json()['id']}").json()
    assert drawn["state"] == "done", drawn["error"]


def test_what_was_stopped_goes_on_and_errors_are_shown(at_home: tuple[httpx.Client, Path]) -> None:
    client, _ = at_home
    long = asked(client, "long", steps=2000).json()["id"]
    while not client.get("/api/trainings").json()[0]["step"]:
        time.sleep(0.2)
    client.post(f"/api/trainings/{long}/stop")
    stopped = ended(client, long)
    assert stopped["state"] == "stopped" and stopped["report"] is None and stopped["file"] is None
    assert client.post(f"/api/trainings/{long}/resume").json()["state"] == "running"
    while (running := client.get("/api/trainings").json()[0])["step"] <= stopped["step"]:
        assert running["state"] == "running"
        time.sleep(0.2)
    client.post(f"/api/trainings/{long}/stop")
    assert ended(client, long)["state"] == "stopped"
    failed = ended(client, asked(client, "wrong", model="emoji-unet", word="sks", like="ball").json()["id"])
    assert failed["state"] == "failed" and "leave out `word`" in failed["says"]


@pytest.mark.parametrize("change", [
    {"name": "../out"}, {"name": ""}, {"model": "nowhere"}, {"word": "sks"}, {"kind": "magic"}, {"pictures": []},
    {"method": "vae"}, {"method": "dreambooth", "word": "sks"}, {"method": "hypernetwork"}, {"hint": "scribble"},
    {"method": "textual-inversion", "like": "dog"}, {"method": "full", "name": "emoji"},
    {"pictures": [{"picture": "input:" + 64 * "0", "caption": "a"}]}, {"steps": 0},
    {"pictures": [{"picture": "/etc/passwd", "caption": "a"}]}, {"pictures": [{"picture": "input:" + 64 * "0"}]},
])  # fmt: skip
def test_bad_requests_start_nothing(at_home: tuple[httpx.Client, Path], change: dict) -> None:
    client, home = at_home
    before = list(home.glob(f"server/trainings/*/{RECORD}"))
    body = {"name": "x", "pictures": [{"picture": sent(client, "red"), "caption": "a ball"}], **change}
    assert client.post("/api/trainings", json=body).status_code in (400, 422)
    assert client.post("/api/trainings/none/resume").status_code == 404
    assert list(home.glob(f"server/trainings/*/{RECORD}")) == before


def test_what_cannot_be_put_among_the_models_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_HOME", "/dev/null/sfumato")
    done = Training(id="x", user="", name="x", kind="lora", model="emoji", steps=1, pictures=1, created=1.0)
    run = tmp_path / "x" / "run"
    (run / "export").mkdir(parents=True)
    (run / "export" / "x.safetensors").write_bytes(b"")
    (run / "log.jsonl").write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "lo')
    (run / "report.html").write_text("")
    done.write(tmp_path / "x")
    assert "cannot be put among the models" in Trainings(tmp_path).settle(done).problem
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "models" / "Lora").mkdir(parents=True)
    (tmp_path / "home" / "models" / "Lora" / "x.safetensors").write_bytes(b"another")
    settled = Trainings(tmp_path).settle(done)
    assert (settled.file, settled.problem) == ("x-2", "")


TRAINER = """#!/bin/sh
cd {folder}
mkdir -p run/export
echo '{{"step": 1, "loss": 0.5}}' > run/log.jsonl
while [ ! -e go ]; do sleep 0.02; done
echo learnt > run/export/balls.safetensors
echo '{{"step": 2, "loss": 0.4}}' >> run/log.jsonl
touch run/report.html
"""


@pytest.mark.parametrize("killed", [False, True])
def test_a_server_that_was_killed_lists_its_training_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """The trainer outlives a killed server; `killed`: it is killed as well, as when a machine stops."""
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path / "home"))
    before, folder, trainer = Trainings(tmp_path / "all"), tmp_path / "all" / "x", tmp_path / "trainer"
    (folder / "pictures").mkdir(parents=True)
    one = Training(id="x", user="ann", name="balls", kind="lora", model="emoji", steps=2, pictures=1, created=1.0)
    one.write(folder)
    trainer.write_text(TRAINER.format(folder=folder))
    trainer.chmod(0o700)
    monkeypatch.setattr(runner.sys, "executable", str(trainer))
    monkeypatch.setattr(runner.threading, "Thread", Mock())  # nobody waits for its end: that server is gone
    before.resume(one)
    again = Trainings(tmp_path / "all")
    (found,) = again.of("ann")
    assert again.running() == "x" and state_of(found, folder, True) == "running"
    until = time.monotonic() + 240
    if killed:
        _, process = (tmp_path / "all" / runner.LOCK).read_text().split()
        os.killpg(int(process), signal.SIGKILL)
    else:
        (folder / "go").touch()
    while again.running() is not None and time.monotonic() < until:
        time.sleep(0.02)
    settled = again.settle(again.get("x", "ann"))
    assert state_of(settled, folder, False) == ("stopped" if killed else "done")
    assert settled.file == (None if killed else "balls")


def test_each_user_has_trainings_of_their_own(tmp_path: Path) -> None:
    trainings = Trainings(tmp_path)
    for user in ("ann", "bo"):
        (tmp_path / user).mkdir()
        Training(id=user, user=user, name=user, kind="lora", model="emoji", steps=3, pictures=1, created=1.0).write(
            tmp_path / user
        )
    assert [one.id for one in trainings.of("ann")] == ["ann"] and trainings.running() is None
    with pytest.raises(KeyError):
        trainings.get("bo", "ann")
