"""Graphs drawn by the live server, as ComfyUI's clients ask for them."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from safetensors.torch import save_file
from websockets.sync.client import connect

import sfumato
from server.comfyui.graphs import ended, image_of, txt2img
from sfumato.errors import SfumatoError
from sfumato.server.worker.file_names import write_numbered


def test_the_default_graph_draws_what_txt2img_draws(client: httpx.Client) -> None:
    reply = client.post("/prompt", json={"prompt": txt2img(text="a red heart", seed=7)})
    assert reply.status_code == 200, reply.text
    assert reply.json()["node_errors"] == {}
    entry = ended(client, reply.json()["prompt_id"])
    assert entry["status"]["status_str"] == "success", entry["status"]
    drawn = image_of(client, entry["outputs"]["9"]["images"][0])
    same = sfumato.load().txt2img(
        "a red heart", seed=7, steps=2, cfg=1.5, sampler="euler", schedule="discrete", width=128, height=128
    )
    assert np.abs(np.asarray(drawn).astype(int) - np.asarray(same[0])).max() <= 1


def test_a_client_as_comfyui_documents_it(server: str, client: httpx.Client) -> None:
    """Queues over HTTP, waits on the web socket until the node is null, then fetches the history's pictures."""
    with connect(server.replace("http", "ws") + "/ws?clientId=watcher", open_timeout=120) as socket:
        graph = txt2img(seed=11, steps=3)
        reply = client.post("/prompt", json={"prompt": graph, "client_id": "watcher"}).json()
        kinds: list[str] = []
        previews: list[bytes] = []
        nodes: list[str | None] = []
        while True:
            message = socket.recv(timeout=120)
            if isinstance(message, bytes):
                previews.append(message)
                continue
            said = json.loads(message)
            kinds.append(said["type"])
            if said["type"] == "executing":
                nodes.append(said["data"]["node"])
                if said["data"]["node"] is None and said["data"]["prompt_id"] == reply["prompt_id"]:
                    break
    assert kinds[0] == "status"
    order = ["execution_start", "execution_cached", "executing", "progress", "executed", "execution_success"]
    assert [kinds.index(kind) for kind in order] == sorted(kinds.index(kind) for kind in order)
    assert {"3", "8", "9"} <= set(nodes)
    assert struct.unpack(">II", previews[0][:8]) == (1, 1)
    assert Image.open(io.BytesIO(previews[0][8:])).format == "JPEG"
    history = client.get(f"/history/{reply['prompt_id']}").json()[reply["prompt_id"]]
    assert history["prompt"][2] == graph
    for image in history["outputs"]["9"]["images"]:
        assert image_of(client, image).size == (128, 128)


def test_what_did_not_change_is_not_worked_on_again(server: str, client: httpx.Client) -> None:
    graph = txt2img(seed=21)
    first = ended(client, client.post("/prompt", json={"prompt": graph}).json()["prompt_id"])
    with connect(server.replace("http", "ws") + "/ws?clientId=again", open_timeout=120) as socket:
        again = client.post("/prompt", json={"prompt": graph, "client_id": "again"}).json()["prompt_id"]
        cached: list[str] = []
        while True:
            message = socket.recv(timeout=120)
            said = json.loads(message) if isinstance(message, str) else {"type": ""}
            if said["type"] == "execution_cached" and said["data"]["prompt_id"] == again:
                cached = said["data"]["nodes"]
            if said["type"] == "execution_success":
                break
    assert {"3", "8"} <= set(cached)
    second = ended(client, again)
    one, two = (image_of(client, entry["outputs"]["9"]["images"][0]) for entry in (first, second))
    assert one.tobytes() == two.tobytes()


def test_a_batch_has_as_many_pictures_and_the_first_is_that_of_its_seed(client: httpx.Client) -> None:
    single, batch = (
        ended(client, client.post("/prompt", json={"prompt": txt2img(seed=7, batch=n)}).json()["prompt_id"])
        for n in (1, 2)
    )
    images = [image_of(client, one) for one in batch["outputs"]["9"]["images"]]
    alone = image_of(client, single["outputs"]["9"]["images"][0])
    assert len(images) == 2
    assert images[0].tobytes() != images[1].tobytes()
    assert np.abs(np.asarray(images[0]).astype(int) - np.asarray(alone)).max() <= 1


def _posted(client: httpx.Client, graph: dict[str, Any]) -> dict[str, Any]:
    reply = client.post("/prompt", json={"prompt": graph})
    assert reply.status_code == 200, reply.text
    entry = ended(client, reply.json()["prompt_id"])
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"]
    return entry


def test_a_picture_is_sent_drawn_over_and_seen(client: httpx.Client) -> None:
    file = io.BytesIO()
    Image.new("RGB", (128, 128), (200, 40, 40)).save(file, "PNG")
    sent = client.post("/upload/image", files={"image": ("red.png", file.getvalue(), "image/png")}).json()
    assert sent == {"name": "red.png", "subfolder": "", "type": "input"}
    seen = client.get("/view", params={"filename": "red.png", "type": "input"})
    assert seen.content == file.getvalue()
    graph = txt2img(text="a red apple", seed=3, steps=2)
    graph["10"] = {"class_type": "LoadImage", "inputs": {"image": "red.png"}}
    graph["5"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["10", 0], "vae": ["4", 2]}}
    graph["3"]["inputs"]["denoise"] = 0.5
    entry = _posted(client, graph)
    drawn = np.asarray(image_of(client, entry["outputs"]["9"]["images"][0])).reshape(-1, 3).mean(0)
    assert drawn[0] > drawn[1] + 40


def test_a_running_graph_is_interrupted(client: httpx.Client) -> None:
    job = client.post("/prompt", json={"prompt": txt2img(seed=31, steps=400)}).json()["prompt_id"]
    while not client.get("/queue").json()["queue_running"]:
        pass
    assert client.post("/interrupt").status_code == 200
    entry = ended(client, job)
    assert entry["status"]["status_str"] == "error"
    assert entry["status"]["messages"][-1][0] == "execution_interrupted"
    client.post("/history", json={"delete": [job]})
    assert client.get(f"/history/{job}").json() == {}


@pytest.mark.parametrize("prefix", ["", "/api"])
def test_the_queue_is_empty_when_all_is_done(client: httpx.Client, prefix: str) -> None:
    assert client.get(prefix + "/queue").json() == {"queue_running": [], "queue_pending": []}
    assert client.get(prefix + "/prompt").json() == {"exec_info": {"queue_remaining": 0}}


def test_files_hold_the_graph_and_have_the_names_that_it_gives(client: httpx.Client) -> None:
    graph = txt2img(seed=17, batch=2)
    graph["9"]["inputs"]["filename_prefix"] = "animals/cat %width%"
    workflow = {"nodes": [], "title": "แมว"}
    body = {"prompt": graph, "extra_data": {"extra_pnginfo": {"workflow": workflow, "parameters": "not ours"}}}
    images = ended(client, client.post("/prompt", json=body).json()["prompt_id"])["outputs"]["9"]["images"]
    names = [(one["subfolder"], one["filename"], one["type"]) for one in images]
    first = int(names[0][1].split("_")[1])
    assert names == [("animals", f"cat 128_{first + k:05}_.png", "output") for k in range(2)]
    picture = Image.open(io.BytesIO(client.get("/view", params=images[0]).content))
    assert isinstance(picture, PngImageFile)
    assert json.loads(str(picture.text["prompt"])) == graph and json.loads(str(picture.text["workflow"])) == workflow
    assert "a red heart" in picture.text["parameters"] and "not ours" not in picture.text["parameters"]
    again = ended(client, client.post("/prompt", json=body).json()["prompt_id"])["outputs"]["9"]["images"]
    assert again[0]["filename"] == f"cat 128_{first + 2:05}_.png"
    over = {"1": {"class_type": "LoadImage", "inputs": {"image": "animals/" + names[0][1] + " [output]"}},
            "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}}  # fmt: skip
    assert ended(client, client.post("/prompt", json={"prompt": over}).json()["prompt_id"])["outputs"]["2"]["images"]


PREFIXES = ["../cat", "/etc/cat", "a/../../cat", "a//b", "~\0", "", "c:/cat", ".git/cat", "..\\cat", "x" * 200]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes_lead_nowhere(client: httpx.Client, prefix: str) -> None:
    graph = txt2img()
    graph["9"]["inputs"]["filename_prefix"] = prefix
    reply = client.post("/prompt", json={"prompt": graph})
    assert reply.status_code == 400 and reply.json()["node_errors"]["9"]["errors"], reply.text


def test_a_link_in_the_outputs_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "link").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(SfumatoError, match="leads out of the folder"):
        write_numbered(tmp_path / "outputs", "link/cat", b"x")
    assert write_numbered(tmp_path / "outputs", "new/cat", b"x") == "new/cat_00001_.png"
    assert write_numbered(tmp_path / "outputs", "new/cat", b"y") == "new/cat_00002_.png"


def test_parts_that_do_not_fit_the_model_are_refused_before_a_job_exists(client: httpx.Client, tmp_path: Path) -> None:
    (folder := tmp_path / "text_encoders").mkdir()
    for name in ("one", "two"):
        save_file({"text_model.embeddings.token_embedding.weight": torch.zeros(9, 8)}, folder / f"{name}.safetensors")
    graph = txt2img()
    graph["20"] = {"class_type": "DualCLIPLoader", "inputs": {
        "clip_name1": "one.safetensors", "clip_name2": "two.safetensors", "type": "sdxl"}}  # fmt: skip
    for key in ("6", "7"):
        graph[key]["inputs"]["clip"] = ["20", 0]
    before = client.get("/api/jobs").json()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SFUMATO_MODELS", str(tmp_path))
        reply = client.post("/prompt", json={"prompt": graph})
    assert reply.status_code == 400 and [*reply.json()["node_errors"]] == ["20"], reply.text
    assert reply.json()["node_errors"]["20"]["dependent_outputs"] == ["9"]
    assert client.get("/api/jobs").json() == before
