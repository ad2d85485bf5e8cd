"""The model of a sampler in a workflow: what loaded it, and what was added to it on the way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sfumato.provenance.readers.conditioning import Words
from sfumato.provenance.readers.graph import Graph, Node, is_link
from sfumato.provenance.recipe import Recipe, base_name, number_in, shown

_NAMES_OF_MODELS = ("ckpt_name", "unet_name", "base_ckpt_name", "model_name", "gguf_name")
_MOST = 50  # nodes that add LoRAs, one behind the other
# How the inputs of a node that adds LoRAs are named, after the LoRA's own; the first that is there counts.
_OF_MODEL = ("lora_wt", "model_str", "model_weight", "strength_model", "strength")
_OF_TEXT = ("clip_str", "clip_weight", "strength_clip")


def take_model(recipe: Recipe, graph: Graph, sampler: Node, words: Words) -> None:
    """Take the model, its LoRAs and other changes, and which layer of the text encoder was read."""
    guider = graph.linked(sampler.inputs.get("guider")) or sampler
    node = _first_linked(graph, guider, ("model", "pipe", "basic_pipe"))
    seen: set[str] = set()
    while node is not None and node.key not in seen:
        seen.add(node.key)
        names = _NAMES_OF_MODELS[: 3 if "lora_name" in node.inputs else None]
        name = next((graph.value(node.inputs[one]) for one in names if one in node.inputs), None)
        if name is not None:
            recipe.model = recipe.model or base_name(name)
        _take_changes(recipe, graph, node)
        further = _first_linked(graph, node, ("model", "model1", "base_model", "opt_model", "any"))
        if further is None and name is None:  # what is not known
            further = next((one for _, one in graph.links(node) if one.key in graph.loaded), None)
        node = further
    for node in words.clips:
        if node.kind == "CLIPSetLastLayer" or "stop_at_clip_layer" in node.inputs or "clip_skip" in node.inputs:
            layer = number_in(graph.value(node.inputs.get("stop_at_clip_layer", node.inputs.get("clip_skip")), ()))
            if layer is not None and layer < 0:
                recipe.number("clip_skip", -layer, int)


def _first_linked(graph: Graph, node: Node, names: tuple[str, ...]) -> Node | None:
    return next((one for name in names if (one := graph.linked(node.inputs.get(name))) is not None), None)


def _take_changes(recipe: Recipe, graph: Graph, node: Node) -> None:
    if node.kind == "RescaleCFG":
        recipe.number("cfg_rescale", graph.value(node.inputs.get("multiplier")), float)
    if node.kind == "PerturbedAttentionGuidance":
        recipe.number("pag", graph.value(node.inputs.get("scale")), float)
    stack: Node | None = node
    for _ in range(_MOST):
        if stack is None:
            break
        for name, on_model, on_text in _loras_of(graph, stack):
            strengths = [number_in(one) for one in (on_text, on_model)]
            if None in strengths:
                recipe.lost.append(f"LoRA {name}, strength {shown(on_model)}")
            else:
                recipe.add_lora(name, *(float(one or 0) for one in strengths))
        stack = _first_linked(graph, stack, ("lora_stack", "optional_lora_stack"))
    if node.kind.startswith("ModelMerge"):
        recipe.lost.append(f"{node.kind}: models that were merged")


def _loras_of(graph: Graph, node: Node) -> Iterator[tuple[str, Any, Any]]:
    """Names of the LoRAs that a node adds, with their strengths on the network that draws and on the text encoder."""
    for name, value in node.inputs.items():
        if isinstance(value, dict) and isinstance(value.get("lora"), str):  # a row of a list of them
            if value.get("on", True) and value["lora"] != "None":
                strength = value.get("strength", 1)
                yield base_name(value["lora"]), strength, value.get("strengthTwo") or strength
        elif name.startswith("lora_name") and not is_link(value) and value not in (None, "None"):
            ending = name.removeprefix("lora_name")
            if node.inputs.get(f"switch{ending}") == "Off":
                continue
            on_model, on_text = (
                next(
                    (graph.value(node.inputs[f"{one}{ending}"]) for one in names if f"{one}{ending}" in node.inputs),
                    None,
                )
                for names in (_OF_MODEL, _OF_TEXT)
            )
            on_model = 1 if on_model is None else on_model
            alone = "clip" not in node.inputs and "Only" in node.kind
            yield base_name(value), on_model, 0 if alone else on_model if on_text is None else on_text
