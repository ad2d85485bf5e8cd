"""Graphs that are wrong: each says what, none stops the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.comfyui.graphs import node, txt2img
from sfumato.errors import SfumatoError
from sfumato.server.dialects.comfyui.faults import problem_of
from sfumato.server.dialects.comfyui.uploads import Uploads, checked_name
from sfumato.server.kinds.graph.cache import Cache
from sfumato.server.kinds.graph.check import GraphError, planned
from sfumato.server.kinds.graph.packs import pack_of
from sfumato.server.kinds.graph.table import NODES


def changed(key: str, **inputs: Any) -> dict[str, Any]:
    graph = txt2img()
    graph[key]["inputs"] |= inputs
    return graph


def without(key: str, name: str) -> dict[str, Any]:
    graph = txt2img()
    del graph[key]["inputs"][name]
    return graph


@pytest.mark.parametrize(
    ("graph", "key", "kind"),
    [
        (changed("3", steps=0), "3", "value_smaller_than_min"),
        (changed("3", cfg=101), "3", "value_bigger_than_max"),
        (changed("3", cfg=float("nan")), "3", "invalid_input_type"),
        (changed("3", seed="seven"), "3", "invalid_input_type"),
        (changed("3", sampler_name="heunpp2"), "3", "value_not_in_list"),
        (changed("4", ckpt_name="v1-5.safetensors"), "4", "value_not_in_list"),
        (changed("3", model=["6", 0]), "3", "return_type_mismatch"),
        (changed("3", model=["4", 9]), "3", "bad_linked_input"),
        (changed("3", model=["99", 0]), "3", "bad_linked_input"),
        (changed("3", model="emoji"), "3", "bad_linked_input"),
        (without("3", "steps"), "3", "required_input_missing"),
        (without("8", "samples"), "8", "required_input_missing"),
    ],
)
def test_a_wrong_input_is_named(client: httpx.Client, graph: dict[str, Any], key: str, kind: str) -> None:
    with pytest.raises(GraphError):
        planned(graph)
    if kind == "invalid_input_type" and graph["3"]["inputs"]["cfg"] != graph["3"]["inputs"]["cfg"]:
        return  # JSON has no such number
    reply = client.post("/prompt", json={"prompt": graph})
    assert reply.status_code == 400
    assert reply.json()["error"]["type"] == "prompt_outputs_failed_validation"
    errors = reply.json()["node_errors"][key]
    assert [one["type"] for one in errors["errors"]] == [kind]
    assert errors["dependent_outputs"] == ["9"] and errors["class_type"] == graph[key]["class_type"]


def test_what_to_take_instead_of_a_sampler_is_said() -> None:
    with pytest.raises(GraphError, match="the nearest that is here is heun"):
        planned(changed("3", sampler_name="heunpp2"))


def test_a_node_of_a_pack_is_named_with_its_pack(client: httpx.Client) -> None:
    graph = txt2img() | {"20": node("IPAdapterAdvanced", model=["4", 0])}
    reply = client.post("/prompt", json={"prompt": graph})
    assert reply.status_code == 400
    assert "ComfyUI_IPAdapter_plus" in reply.json()["error"]["message"]
    assert reply.json()["node_errors"]["20"]["errors"][0]["type"] == "missing_node_type"
    assert "rgthree" in pack_of("Fast Muter (rgthree)")
    assert not [name for name in NODES if "known here" not in pack_of(name) and name != "ControlNetLoader"]


def test_a_circle_is_found() -> None:
    graph = {
        "1": node("ImageInvert", image=["2", 0]),
        "2": node("ImageInvert", image=["1", 0]),
        "9": node("SaveImage", images=["1", 0], filename_prefix="x"),
    }
    with pytest.raises(GraphError) as caught:
        planned(graph)
    assert "dependency_cycle" in {one.kind for one in caught.value.problems}


def test_a_good_end_is_worked_on_beside_a_bad_one() -> None:
    graph = txt2img() | {"bad": node("SaveImage", images=["nowhere", 0], filename_prefix="x")}
    plan = planned(graph)
    assert plan.ends == ("9",)
    assert [one.node for one in plan.problems] == ["bad"] and plan.lost["bad"] == ("bad",)


def test_a_chain_of_many_nodes_is_put_in_order() -> None:
    graph = {"0": node("EmptyImage", width=8, height=8, batch_size=1, color=0)}
    graph |= {str(k): node("ImageInvert", image=[str(k - 1), 0]) for k in range(1, 1900)}
    graph["end"] = node("PreviewImage", images=["1899", 0])
    assert [*planned(graph).steps] == [*map(str, range(1900)), "end"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(["3", 0]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = ("3", "4", "5", "6", "8", "9")


@given(st.dictionaries(st.sampled_from(KEYS), st.dictionaries(st.text(max_size=8) | st.sampled_from(
    ["seed", "steps", "cfg", "model", "latent_image", "text", "clip", "images", "samples", "ckpt_name", "width"]
), VALUES, max_size=4), max_size=4))  # fmt: skip
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_graphs_with_anything_in_their_inputs_are_planned_or_refused(wrong: dict[str, dict[str, Any]]) -> None:
    graph = txt2img()
    for key, inputs in wrong.items():
        graph[key]["inputs"] |= inputs
    try:
        plan = planned(graph)
    except GraphError as error:
        assert str(error)
    else:
        assert plan.ends == ("9",)


@given(VALUES)
@settings(max_examples=100, deadline=None)
def test_what_is_no_graph_is_refused(value: Any) -> None:
    with pytest.raises(GraphError):
        planned(value)


@given(VALUES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_body_makes_the_server_fail(client: httpx.Client, value: Any) -> None:
    if problem_of(value) is None:
        for body in (value, {"prompt": value}, {"prompt": {"1": value}}):
            assert 400 <= client.post("/prompt", json=body).status_code < 500


def test_bodies_that_json_cannot_hold_are_refused(client: httpx.Client) -> None:
    for text in (
        '{"prompt": {"1": NaN}}',
        '{"prompt": {"1": "\\ud800"}}',
        '{"prompt": ' + '{"a": ' * 90 + "1" + "}" * 91,
    ):
        reply = client.post("/prompt", content=text, headers={"Content-Type": "application/json"})
        assert 400 <= reply.status_code < 500, text[:30]


@pytest.mark.parametrize("name", ["../x.png", "/etc/passwd", "a/../b.png", "", "a\0b", "x" * 300, "..\\x"])
def test_names_lead_nowhere(client: httpx.Client, name: str) -> None:
    with pytest.raises(SfumatoError):
        checked_name(name)
    assert client.get("/view", params={"filename": name}).status_code in (400, 404, 422)


def test_names_of_uploads(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path)
    assert uploads.add("", "input", "a.png", "input:1") == "a.png"
    assert uploads.add("", "input", "a.png", "input:1") == "a.png"
    assert uploads.add("", "input", "a.png", "input:2") == "a (1).png"
    assert uploads.add("", "input", "a.png", "input:3", overwrite=True) == "a.png"
    assert uploads.all("") == {"a (1).png": "input:2", "a.png": "input:3"}
    assert uploads.find("other", "input", "a.png") is None


def test_the_least_used_leaves_the_cache() -> None:
    cache = Cache(limit=2000)
    for key in "abc":
        cache.put(key, ("x" * 300,))
        cache.get("a")
    assert cache.get("a") is not None and cache.get("b") is None and cache.bytes <= 2000
    cache.put("large", ("x" * 4000,))
    assert cache.get("large") is None and len(cache) == 2
    cache.clear()
    assert cache.bytes == 0 == len(cache)


def test_facts_that_clients_ask_for(client: httpx.Client) -> None:
    told = client.get("/object_info").json()
    assert told.keys() == NODES.keys()
    sampler = told["KSampler"]
    assert sampler["input"]["required"]["seed"][1]["max"] == 2**64 - 1
    assert "euler" in sampler["input"]["required"]["sampler_name"][0]
    assert sampler["output"] == ["LATENT"] and told["SaveImage"]["output_node"]
    assert "emoji" in told["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0]
    assert client.get("/object_info/KSampler").json() == {"KSampler": sampler}
    assert client.get("/object_info/Nothing").json() == {}
    stats = client.get("/system_stats").json()
    assert stats["system"]["ram_total"] > 0 and stats["devices"][0]["type"] in ("cpu", "cuda")
    assert "saturn-emoji" in client.get("/embeddings").json()
    assert "checkpoints" in client.get("/models").json()
    assert "sepia.safetensors" in client.get("/api/models/loras").json()
    assert client.get("/models/nothing").status_code == 404
    assert client.get("/extensions").json() == []
    assert client.post("/free", json={"unload_models": True}).status_code == 200


def test_the_page_lists_the_nodes() -> None:
    page = (Path(__file__).parents[3] / "docs/coming-from-comfyui.md").read_text(encoding="utf-8")
    section = page.split("## Nodes of the server")[1].split("## ")[0]
    lines = "".join(section.partition("\n- ")[1:]).replace("\n  ", " ").split("\n- ")[1:]
    listed = [name for line in lines for name in line.strip().rpartition(": ")[2].rstrip(".").split(", ")]
    assert sorted(listed) == sorted(NODES)
