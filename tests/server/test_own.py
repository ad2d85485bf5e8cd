"""Our own API, with a live server."""

from __future__ import annotations

import base64
import io
import json

import httpx
import pytest
from PIL import Image

import sfumato

QUICK = {"steps": 2, "width": 128, "height": 128, "seed": 5}


def ended(client: httpx.Client, job: str) -> dict:
    """The job when it is ended, and what was told until then under `told`."""
    told = []
    with client.stream("GET", f"/api/jobs/{job}/events") as events:
        for line in events.iter_lines():
            if line.startswith("data: "):
                told.append(json.loads(line.removeprefix("data: ")))
    return {**client.get(f"/api/jobs/{job}").json(), "told": told}


def drawn(client: httpx.Client, **body: object) -> dict:
    reply = client.post("/api/jobs", json=body)
    assert reply.status_code == 201, reply.text
    return ended(client, reply.json()["id"])


def base64_of(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def picture(client: httpx.Client, job: dict, index: int = 0) -> Image.Image:
    return Image.open(io.BytesIO(client.get(job["pictures"][index]["url"]).content))


def test_a_picture_is_the_one_that_python_draws(client: httpx.Client) -> None:
    job = drawn(client, prompt="a red heart", options={**QUICK, "n": 2})
    assert job["state"] == "done" and [one["seed"] for one in job["pictures"]] == [5, 6]
    whats = [one["event"] for one in job["told"]]
    assert whats[-1] == "done" and whats.count("picture") == 2 and "progress" in whats
    wanted = sfumato.load().txt2img("a red heart", n=2, **QUICK)
    for index in range(2):
        got = picture(client, job, index)
        assert got.convert("RGB") == wanted[index]
        assert got.text["parameters"] == job["pictures"][index]["infotext"]


def test_a_watched_picture_says_where_it_attends_to_which_word(client: httpx.Client) -> None:
    job = drawn(client, prompt="a red heart", options=QUICK, how={"attention": True})
    said = [one["attention"] for one in job["told"] if one["event"] == "report"]
    assert [one["step"] for one in said] == [1, 2] and said[-1] == job["report"]["attention"]
    assert said[0]["words"] == ["red heart", "(ground)"] and 0 < said[0]["shares"][0] < 1
    assert [max(base64.b64decode(one)) for one in said[0]["maps"]] == [255, 255]
    assert len(base64.b64decode(said[0]["maps"][0])) == said[0]["height"] * said[0]["width"] == 16
    assert sum("preview" in one for one in job["told"]) == 2
    refused = client.post("/api/jobs", json={"prompt": "a", "options": QUICK, "how": {"attention": "yes"}})
    assert refused.status_code == 400 and "give true or false" in refused.json()["error"]


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("img2img", {"strength": 0.5}),
        ("inpaint", {"blur": 2}),
        ("outpaint", {"right": 32}),
        ("upscale", {"scale": 1.5, "strength": 0.2}),
    ],
)
def test_tasks_on_a_picture(client: httpx.Client, kind: str, how: dict) -> None:
    image = Image.new("RGB", (128, 128), "white")
    pictures = {"image": base64_of(image)}
    if kind == "inpaint":
        pictures["mask"] = base64_of(Image.new("L", (128, 128), 255))
    options = {"steps": 2, "seed": 1} if kind in ("upscale", "outpaint") else QUICK
    job = drawn(client, kind=kind, prompt="a cat", how=how, pictures=pictures, options=options)
    assert job["state"] == "done", job["error"]
    width = {"outpaint": 160, "upscale": 192}.get(kind, 128)
    assert picture(client, job).width == width


def test_other_kinds(client: httpx.Client) -> None:
    sent = client.post("/api/pictures", json={"picture": base64_of(Image.new("RGB", (32, 32), "red"))}).json()["name"]
    large = drawn(client, kind="enlarge", pictures={"image": sent}, how={"scale": 2, "upscaler": "nearest"})
    assert picture(client, large).size == (64, 64)
    said = drawn(client, kind="interrogate", pictures={"image": sent}, how={"captions": ["red", "a cat"], "top": 1})
    assert len(said["report"]["matches"]) == 1


PICTURE = {"image": base64_of(Image.new("RGB", (16, 16)))}


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"kind": "paint"}, 400, "unknown kind of request"),
        ({"model": "nowhere"}, 400, "nowhere"),
        ({"options": {"steps": -1}}, 400, "steps"),
        ({"options": {"stepz": 3}}, 400, "steps"),
        ({"kind": "img2img"}, 400, "image"),
        ({"kind": "img2img", "pictures": {"image": "%%%"}}, 400, "base64"),
        ({"kind": "img2img", "pictures": {"image": "aGVsbG8="}}, 400, "picture"),
        ({"how": {"strength": 1}}, 400, "strength"),
        ({"kind": "interrogate"}, 400, "one picture"),
        ({"kind": "interrogate", "pictures": PICTURE, "how": {"topp": 3}}, 400, "did you mean 'top'"),
        ({"kind": "interrogate", "pictures": PICTURE, "how": {"top": "3"}}, 400, "top is '3'"),
        ({"kind": "interrogate", "pictures": PICTURE, "how": {"language": "xx"}}, 400, "language"),
        ({"kind": "compress", "pictures": PICTURE, "how": {"quality": 500}}, 400, "quality"),
        ({"kind": "enlarge", "pictures": PICTURE, "how": {"scale": "x"}}, 400, "scale"),
        ({"kind": "enlarge", "pictures": PICTURE, "how": {"upscaler": 3}}, 400, "upscaler"),
        ({"kind": "enlarge", "pictures": PICTURE, "how": {"upscaler": "nowhere"}}, 400, "nowhere"),
        ({"kind": "hint", "pictures": PICTURE, "how": {"hint": "canny", "resize": "x"}}, 400, "resize"),
        ({"prompt": 3}, 422, "prompt"),
        ({"promt": "a cat"}, 422, "promt"),
    ],
)
def test_bad_requests_become_no_jobs(client: httpx.Client, body: dict, status: int, says: str) -> None:
    before = client.get("/api/jobs").json()
    reply = client.post("/api/jobs", json=body)
    assert reply.status_code == status and says in reply.json()["error"], reply.text
    assert client.get("/api/jobs").json()[:1] == before[:1]


def test_the_same_key_is_the_same_job(client: httpx.Client) -> None:
    body, key = {"prompt": "a cat", "options": QUICK}, {"Idempotency-Key": "once"}
    first = client.post("/api/jobs", json=body, headers=key).json()
    assert client.post("/api/jobs", json=body, headers=key).json()["id"] == first["id"]
    other = client.post("/api/jobs", json={**body, "prompt": "a dog"}, headers=key)
    assert other.status_code == 422 and "Idempotency-Key" in other.json()["error"]
    ended(client, first["id"])


def test_cancel_and_retry(client: httpx.Client) -> None:
    job = client.post("/api/jobs", json={"prompt": "a cat", "options": {**QUICK, "steps": 900}}).json()["id"]
    assert client.post(f"/api/jobs/{job}/cancel").json()["state"] == "cancelled"
    assert ended(client, job)["state"] == "cancelled"
    assert client.post(f"/api/jobs/{job}/retry").json()["state"] in ("queued", "running")
    client.post(f"/api/jobs/{job}/cancel")
    done = drawn(client, prompt="a cat", options=QUICK)
    assert client.post(f"/api/jobs/{done['id']}/retry").status_code == 400


def test_what_is_not_here(client: httpx.Client) -> None:
    for path in ("/api/jobs/none", "/api/jobs/none/events", "/api/jobs/none/pictures/0", "/nowhere"):
        assert client.get(path).status_code == 404
    assert client.get("/livez").text == "ok"
    assert "sfumato_workers_ready 1" in client.get("/metrics").text
    assert [one["loaded"] for one in client.get("/api/models").json() if one["name"] == "emoji"]


def test_numbers_that_the_database_cannot_hold_are_refused(client: httpx.Client) -> None:
    for path in (f"/api/jobs?before={2**70}", f"/api/jobs?before=-{2**70}", f"/api/gallery?offset={2**70}"):
        assert client.get(path).status_code == 422, path
    place = {"job": "x", "index": 2**70}
    assert client.post("/api/gallery/mark", json={"pictures": [place], "favourite": True}).status_code == 422
