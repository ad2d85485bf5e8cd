"""What the page asks for besides jobs: options, words, files, the gallery."""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image, PngImagePlugin

from server.conftest import serving
from sfumato.server.config import Config

QUICK = {"steps": 2, "width": 64, "height": 64, "seed": 7}


@pytest.fixture(scope="module")
def drawn(server: str) -> Iterator[httpx.Client]:
    """A client of the live server, whose only pictures are three of a heron and one of a teapot."""
    with httpx.Client(base_url=server, timeout=120) as client:
        client.post("/api/gallery/mark", json={"pictures": places(found(client, count=500)), "deleted": True})
        for prompt, n in (("a blue heron", 3), ("a teapot", 1)):
            reply = client.post("/api/jobs", json={"prompt": prompt, "options": {**QUICK, "n": n}})
            client.get(f"/api/jobs/{reply.json()['id']}/events")  # waits until it is done
        yield client


def found(client: httpx.Client, **query: object) -> list[dict]:
    return client.get("/api/gallery", params=query).json()["pictures"]


def places(pictures: list[dict]) -> list[dict]:
    return [{"job": one["job"], "index": one["index"]} for one in pictures]


def test_pictures_are_found_by_what_is_known_of_them(drawn: httpx.Client) -> None:
    herons = found(drawn, words="heron blue")
    assert [one["seed"] for one in herons] == ["7", "8", "9"] and {one["prompt"] for one in herons} == {"a blue heron"}
    assert [one["seed"] for one in found(drawn, words="heron", seed="8")] == ["8"]
    assert found(drawn, words="heron", model="emoji") == herons and found(drawn, words="heron", model="sdxl") == []
    assert found(drawn, words="heron", before=1) == [] and found(drawn, words="heron", after=1) == herons
    assert found(drawn, words="100%_heron") == []
    assert [one["seed"] for one in found(drawn, words="heron", offset=1, count=1)] == ["8"]


def test_favourites_folders_and_deletion_with_undo(drawn: httpx.Client) -> None:
    herons = found(drawn, words="heron")
    mark = {"pictures": places(herons[:1])}
    assert drawn.post("/api/gallery/mark", json={**mark, "favourite": True, "folder": "birds"}).json() == {"changed": 1}
    assert places(found(drawn, favourite=True, folder="birds")) == places(herons[:1])
    assert "birds" in drawn.get("/api/gallery/facets").json()["folders"]
    drawn.post("/api/gallery/mark", json={**mark, "deleted": True})
    assert places(found(drawn, words="heron")) == places(herons[1:])
    drawn.post("/api/gallery/mark", json={**mark, "deleted": False})
    assert places(found(drawn, words="heron")) == places(herons)
    drawn.post("/api/gallery/mark", json={**mark, "favourite": False, "folder": ""})
    assert found(drawn, favourite=True) == []


def test_faces_are_the_last_pictures_of_models_and_loras(drawn: httpx.Client) -> None:
    for seed in (21, 22):
        job = drawn.post(
            "/api/jobs", json={"prompt": "a face", "options": {**QUICK, "seed": seed, "lora": ["sepia:0.5"]}}
        ).json()["id"]
        drawn.get(f"/api/jobs/{job}/events")
    faces = drawn.get("/api/gallery/faces").json()
    assert job in faces["models"]["emoji"] and faces["loras"]["sepia"] == faces["models"]["emoji"]
    assert drawn.get(faces["models"]["emoji"]).status_code == 200
    drawn.post("/api/gallery/mark", json={"pictures": [{"job": job, "index": 0}], "deleted": True})
    assert job not in drawn.get("/api/gallery/faces").json()["loras"]["sepia"]


def test_the_nearest_to_a_picture_is_itself(drawn: httpx.Client) -> None:
    one = found(drawn, words="teapot")[0]
    near = drawn.get("/api/gallery/similar", params={"job": one["job"], "index": 0}).json()["pictures"]
    assert near[0]["job"] == one["job"] and len(near) >= 4
    assert len(drawn.get("/api/gallery/similar", params={"text": "a teapot", "count": 2}).json()["pictures"]) == 2
    assert drawn.get("/api/gallery/similar").status_code == 422


def test_small_versions_and_archives(drawn: httpx.Client) -> None:
    herons = found(drawn, words="heron")
    small = drawn.get(herons[0]["small"])
    assert small.headers["content-type"] == "image/webp" and Image.open(io.BytesIO(small.content)).size == (64, 64)
    archive = zipfile.ZipFile(io.BytesIO(drawn.post("/api/gallery/export", json={"pictures": places(herons)}).content))
    assert len(archive.namelist()) == 3 and archive.testzip() is None
    first = Image.open(io.BytesIO(archive.read(archive.namelist()[0])))
    assert first.text["parameters"] == herons[0]["infotext"]


def test_tokens_weights_and_notes(drawn: httpx.Client) -> None:
    said = drawn.post("/api/tokens", json={"prompt": "a (red:1.5) cat [x"}).json()
    pieces = {one["text"]: one["weight"] for one in said["parts"][0]["readings"][0]["windows"][0]}
    assert pieces["red"] == 1.5 and pieces["cat"] == 1 and len(said["notes"]) == 1
    assert drawn.post("/api/tokens", json={"prompt": "a", "model": "nowhere"}).status_code == 400
    assert drawn.post("/api/tokens", json={"prompt": "a", "options": {"steps": 0}}).status_code == 400


def test_options_have_the_models_own_defaults(drawn: httpx.Client) -> None:
    said = drawn.get("/api/options").json()
    options = {one["name"]: one for one in said["options"]}
    assert options["steps"]["default"] == 12 and options["width"]["step"] > 1
    assert options["sampler"]["labels"][options["sampler"]["choices"].index("euler")] == "Euler"
    assert "strength" in [one["name"] for one in said["tasks"]["img2img"]]
    assert drawn.get("/api/options", params={"model": "nowhere"}).status_code == 400


def test_what_memory_a_model_takes(drawn: httpx.Client) -> None:
    said = drawn.get("/api/memory").json()
    assert said["dtype"] == "float32" and set(said["weights"]) >= {"transformer", "vae", "text"}
    assert said["drawing"] > sum(said["weights"].values()) > said["weights"]["transformer"] > 0
    half = drawn.get("/api/memory", params={"dtype": "float16"}).json()
    assert 2 * half["weights"]["vae"] == said["weights"]["vae"]
    for model in ("nowhere", "../emoji"):
        assert drawn.get("/api/memory", params={"model": model}).status_code == 400
    assert drawn.get("/api/memory", params={"dtype": "int8"}).status_code == 422


def test_pictures_in_motion(drawn: httpx.Client) -> None:
    job = found(drawn, words="heron")[0]["job"]
    for kind, back, frames in (("webp", True, 4), ("gif", False, 3), ("png", True, 4)):
        reply = drawn.get(f"/api/jobs/{job}/animation", params={"format": kind, "back": back, "fps": 10})
        film = Image.open(io.BytesIO(reply.content))
        assert reply.headers["content-type"].startswith("image/") and (film.n_frames, film.size) == (frames, (64, 64))
        film.load()
        assert film.info["duration"] == 100
    single = found(drawn, words="teapot")[0]["job"]
    refused = drawn.get(f"/api/jobs/{single}/animation")
    assert refused.status_code == 400 and "takes two or more" in refused.json()["error"]
    assert drawn.get("/api/jobs/none/animation").status_code == 404
    assert drawn.get(f"/api/jobs/{job}/animation", params={"format": "exe"}).status_code == 422


def sent(image: Image.Image, **more: object) -> dict:
    file = io.BytesIO()
    image.save(file, "PNG", **more)
    return {"picture": base64.b64encode(file.getvalue()).decode()}


def test_what_a_foreign_picture_says(drawn: httpx.Client) -> None:
    settings = PngImagePlugin.PngInfo()
    settings.add_text("parameters", "a castle\nNegative prompt: fog\nSteps: 20, Sampler: DPM++ 2M Karras, "
                      "CFG scale: 7, Seed: 18446744073709551615, Size: 512x768, Model: no.1, Curiosity: 3")  # fmt: skip
    said = drawn.post("/api/replay", json=sent(Image.new("RGB", (8, 8)), pnginfo=settings)).json()
    assert (said["prompt"], said["negative"], said["seed"]) == ("a castle", "fog", "18446744073709551615")
    assert said["options"]["sampler"] == "dpmpp_2m" and said["options"]["height"] == 768
    assert said["model"] is None and any("Curiosity" in one for one in said["lost"])
    plain = drawn.post("/api/replay", json=sent(Image.new("RGB", (8, 8))))
    assert plain.status_code == 400 and "the picture" in plain.json()["error"]


def test_a_picture_in_few_bytes(drawn: httpx.Client) -> None:
    name = drawn.post("/api/pictures", json=sent(Image.new("RGB", (64, 64), "teal"))).json()["name"]
    job = drawn.post("/api/jobs", json={"kind": "compress", "pictures": {"image": name}}).json()["id"]
    drawn.get(f"/api/jobs/{job}/events")
    done = drawn.get(f"/api/jobs/{job}").json()
    assert len(base64.b64decode(done["report"]["file"])) == done["report"]["bytes"] < 500
    assert done["pictures"][0]["width"] == 64


def test_deleted_files_go_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sfumato.server.dialects.page import gallery

    monkeypatch.setattr(gallery, "UNDO", -1.0)
    with serving(Config(folder=tmp_path)) as address, httpx.Client(base_url=address, timeout=120) as client:
        job = client.post("/api/jobs", json={"prompt": "a cup", "options": QUICK}).json()["id"]
        client.get(f"/api/jobs/{job}/events")
        assert len(list(tmp_path.glob("outputs/*/*.png"))) == 1
        client.post("/api/gallery/mark", json={"pictures": [{"job": job, "index": 0}], "deleted": True})
        assert not list(tmp_path.glob("outputs/*/*.png")) and found(client) == []


def test_an_empty_gallery_has_nothing_similar(drawn: httpx.Client) -> None:
    every = {"pictures": places(found(drawn, count=500))}
    drawn.post("/api/gallery/mark", json={**every, "deleted": True})
    reply = drawn.get("/api/gallery/similar", params={"text": "a teapot"})
    drawn.post("/api/gallery/mark", json={**every, "deleted": False})
    assert (reply.status_code, reply.json()) == (200, {"total": 0, "pictures": []})
