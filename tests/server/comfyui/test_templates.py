"""Workflows of the public package comfyui-workflow-templates, in the API format, drawn small by the models that ship.

`pip install comfyui-workflow-templates==0.1.0` brings them.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Mapping
from inspect import Parameter
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from server.comfyui.graphs import ended, image_of
from sfumato.server.kinds.graph.table import NODES, Choice, File, Number, Sent

NAMES = (
    "default", "image2image", "lora", "lora_multiple", "hiresfix_latent_workflow", "area_composition",
    "area_composition_square_area_for_subject", "inpaint_example", "inpain_model_outpainting", "controlnet_example",
    "mixing_controlnets", "2_pass_pose_worship", "latent_upscale_different_prompt_model", "embedding_example",
    "sdxl_simple_example", "sdxl_refiner_prompt_example", "sdxlturbo_example", "sd3.5_simple_example",
    "depth_controlnet", "depth_t2i_adapter",
)  # fmt: skip
FILES = {"model": "emoji", "lora": "sepia.safetensors", "controlnet": "emoji-edges.safetensors"}
SIDE = 128


def templates() -> Path:
    found = importlib.util.find_spec("comfyui_workflow_templates")
    if found is None or found.submodule_search_locations is None:
        pytest.skip("needs comfyui-workflow-templates 0.1.0")
    return Path(next(iter(found.submodule_search_locations))) / "templates"


def as_api(workflow: Mapping[str, Any]) -> dict[str, Any]:
    """A workflow of the editor in the API format, as the editor sends it."""
    nodes = {one["id"]: one for one in workflow["nodes"]}
    links = {one[0]: one for one in workflow["links"]}
    graph = {}
    for key, one in nodes.items():
        if one["type"] not in NODES or one["type"] == "Reroute" or one.get("mode") in (2, 4):
            continue
        inputs = dict(_widgets(one))
        for socket in one.get("inputs", ()):
            if socket.get("link") is not None and (value := _source(socket["link"], nodes, links)) is not None:
                inputs[socket["name"]] = value
        graph[str(key)] = {"class_type": one["type"], "inputs": inputs}
    return graph


def _widgets(one: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    values = iter(one.get("widgets_values") or ())
    for name, given in NODES[one["type"]].inputs.items():
        if given.widget is None:
            continue
        value = next(values, None)
        if value is None and isinstance(given.widget, File):
            value = next(iter(given.widget.names()), None)
        if value is None and given.default is not Parameter.empty:  # as the editor fills in what a file leaves out
            value = given.default
        if value is not None:
            yield name, value
        if isinstance(given.widget, Number) and given.widget.seed:
            next(values, None)  # what happens to the seed after it is drawn


def _source(link: int, nodes: Mapping[int, Any], links: Mapping[int, Any]) -> Any:
    """Where a link comes from, behind the editor's own nodes: another node, or a value."""
    _, key, output, *_ = links[link]
    one = nodes[key]
    if one["type"] == "Reroute":
        before = one["inputs"][0].get("link")
        return None if before is None else _source(before, nodes, links)
    return one["widgets_values"][0] if one["type"] == "PrimitiveNode" else [str(key), output]


def made_small(graph: dict[str, Any], picture: str) -> None:
    """Takes the files that are here, two steps, and small pictures."""
    for one in graph.values():
        sizes = {name: value for name, value in one["inputs"].items() if name in ("width", "height", "x", "y")}
        for name, value in sizes.items():
            if isinstance(value, int):
                one["inputs"][name] = max(0 if name in "xy" else 64, round(value / 8 / 32) * 32)
        for name, given in NODES[one["class_type"]].inputs.items():
            widget = given.widget
            if isinstance(widget, File) and name in one["inputs"]:
                one["inputs"][name] = FILES.get(widget.kinds[0], one["inputs"][name])
            elif isinstance(widget, Sent):
                one["inputs"][name] = picture
            elif name in ("left", "right", "top", "bottom") and isinstance(one["inputs"].get(name), int):
                one["inputs"][name] = round(one["inputs"][name] / 256) * 32
            elif isinstance(widget, Choice) and not isinstance(widget, File) and name == "sampler_name":
                one["inputs"][name] = "euler"
        if isinstance(text := one["inputs"].get("text"), str):
            one["inputs"]["text"] = text.replace("embedding:SDA768.pt", "embedding:saturn-emoji")
        steps = one["inputs"].get("steps")
        if isinstance(steps, int):
            for name in ("start_at_step", "end_at_step"):
                if 0 < one["inputs"].get(name, 0) < 10000:
                    one["inputs"][name] = 1
            one["inputs"]["steps"] = 2


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_public_workflow_is_drawn(client: httpx.Client, tmp_path: Path, name: str) -> None:
    graph = as_api(json.loads((templates() / f"{name}.json").read_text(encoding="utf-8")))
    file = tmp_path / "example.png"
    picture = Image.linear_gradient("L").resize((SIDE, SIDE)).convert("RGBA")
    picture.putalpha(Image.new("L", (SIDE, SIDE), 255))
    picture.paste((0, 0, 0, 0), (40, 40, 90, 90))
    picture.save(file)
    sent = client.post("/upload/image", files={"image": file.read_bytes()}).json()["name"]
    made_small(graph, sent)
    own_vae = [key for key, one in graph.items() if one["class_type"] == "VAELoader"]
    loader = next(key for key, one in graph.items() if one["class_type"] == "CheckpointLoaderSimple")
    for one in graph.values():  # no VAE ships by itself
        for given, value in one["inputs"].items():
            if isinstance(value, list) and value[0] in own_vae:
                one["inputs"][given] = [loader, 2]
    for key in own_vae:
        del graph[key]
    reply = client.post("/prompt", json={"prompt": graph})
    assert reply.status_code == 200, reply.text
    entry = ended(client, reply.json()["prompt_id"])
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"][-1][1]["exception_message"]
    assert entry["outputs"]
    for output in entry["outputs"].values():
        for image in output["images"]:
            assert min(image_of(client, image).size) >= 32
