"""Settings in the workflows of ComfyUI: the graph of nodes that a picture's file holds as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sfumato.errors import SfumatoError
from sfumato.provenance.recipe import Recipe

Graph = Mapping[str, Mapping[str, Any]]
_SAMPLERS = ("KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced")
_SCHEDULES = {"normal": "discrete"}
# Nodes that change nothing of what we read, or that we read.
_UNDERSTOOD = {
    *_SAMPLERS, "CheckpointLoaderSimple", "CheckpointLoader", "UNETLoader", "CLIPLoader", "DualCLIPLoader",
    "TripleCLIPLoader", "VAELoader", "CLIPTextEncode", "CLIPTextEncodeSDXL", "CLIPTextEncodeSD3", "CLIPSetLastLayer",
    "EmptyLatentImage", "EmptySD3LatentImage", "VAEDecode", "VAEDecodeTiled", "VAEEncode", "LoadImage", "SaveImage",
    "PreviewImage", "KSamplerSelect", "BasicScheduler", "RandomNoise", "CFGGuider", "BasicGuider", "ImageScale",
    "ModelSamplingSD3", "Note", "Reroute", "PrimitiveNode", "RescaleCFG",
}  # fmt: skip


def read(graph: Graph) -> Recipe:
    """The recipe of the last sampler before a saved picture. Raises SfumatoError for a graph without any."""
    sampler = _last_sampler(graph)
    recipe = Recipe("ComfyUI")
    recipe.options |= {"rng": "cpu", "emphasis": "comfy", "prompt_syntax": "a1111"}
    recipe.rules += [
        "noise: first noise drawn on the CPU",
        "emphasis: towards and away from the encoding of an empty prompt",
    ]
    _sampling(recipe, graph, sampler)
    _words(recipe, graph, sampler)
    for node in (node for _, node in _upstream(graph, sampler)):
        inputs, kind = node.get("inputs", {}), node.get("class_type", "")
        if recipe.model is None and (name := inputs.get("ckpt_name") or inputs.get("unet_name")):
            recipe.model = str(name).replace("\\", "/").rpartition("/")[2].rsplit(".", 1)[0]
        elif kind == "CLIPSetLastLayer":
            recipe.number("clip_skip", -int(inputs.get("stop_at_clip_layer", -1)), int)
        elif kind == "RescaleCFG":
            recipe.number("cfg_rescale", inputs.get("multiplier"), float)
        elif kind not in _UNDERSTOOD:
            recipe.lost.append(f"node {kind}")
    _latents(recipe, graph, sampler)
    others = [key for key, node in graph.items() if node.get("class_type") in _SAMPLERS and node is not sampler]
    if others:
        recipe.lost.append(f"{len(others)} more samplers in the workflow (nodes {', '.join(others)})")
    return recipe


def _linked(graph: Graph, value: Any) -> Mapping[str, Any] | None:
    """The node that an input comes from, which a graph says as [node, output]."""
    if isinstance(value, list) and len(value) == 2:
        return graph.get(str(value[0]))
    return None


def _upstream(graph: Graph, node: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every node that a node depends on, once, the nearest first, with the name of the input that led to it."""
    seen, waiting = {id(node)}, [("", node)]
    while waiting:
        name, current = waiting.pop(0)
        yield name, current
        for key, value in current.get("inputs", {}).items():
            other = _linked(graph, value)
            if other is not None and id(other) not in seen:
                seen.add(id(other))
                waiting.append((key, other))


def _last_sampler(graph: Graph) -> Mapping[str, Any]:
    ends = [node for node in graph.values() if node.get("class_type") in ("SaveImage", "PreviewImage")]
    for end in [*ends, *graph.values()]:
        for _, node in _upstream(graph, end):
            if node.get("class_type") in _SAMPLERS:
                return node
    raise SfumatoError("the workflow has no sampler that is known here (KSampler, SamplerCustom); nothing to replay")


def _value(graph: Graph, value: Any, names: tuple[str, ...]) -> Any:
    """A plain input, or what the node that it comes from says under one of these names."""
    node = _linked(graph, value)
    if node is None:
        return value
    inputs = node.get("inputs", {})
    return next((_value(graph, inputs[name], names) for name in names if name in inputs), None)


def _sampling(recipe: Recipe, graph: Graph, sampler: Mapping[str, Any]) -> None:
    inputs: dict[str, Any] = {}
    for name, node in _upstream(graph, sampler):
        if name in ("", "sampler", "sigmas", "noise", "guider"):
            inputs = {**node.get("inputs", {}), **inputs}
    steps = _value(graph, inputs.get("steps"), ("value", "steps"))
    recipe.number("steps", steps, int)
    recipe.number(
        "seed", _value(graph, inputs.get("seed", inputs.get("noise_seed")), ("value", "seed", "noise_seed")), int
    )
    recipe.number("cfg", _value(graph, inputs.get("cfg", 1), ("value", "cfg")), float)
    schedule = str(inputs.get("scheduler", "normal"))
    recipe.sampler(str(inputs.get("sampler_name", "euler")).removesuffix("_gpu"), _SCHEDULES.get(schedule, schedule))
    recipe.rules.append(f"sigma list: {schedule}")
    recipe.lost.append(
        "noise that a sampler adds on the way is drawn otherwise, which matters for ancestral and SDE ones"
    )
    denoise = _value(graph, inputs.get("denoise", 1), ("value",))
    if isinstance(denoise, int | float) and 0 < denoise < 1 and recipe.options.get("steps"):
        taken = recipe.options["steps"]
        recipe.options["steps"] = int(taken / denoise)
        recipe.strength = taken / recipe.options["steps"]
        recipe.rules.append(f"denoise {denoise:g}: the last {taken} of {recipe.options['steps']} steps")
    start, end = inputs.get("start_at_step", 0), inputs.get("end_at_step", steps)
    if start or (isinstance(end, int) and isinstance(steps, int) and end < steps):
        recipe.lost.append(f"steps {start} to {end} only")


def _words(recipe: Recipe, graph: Graph, sampler: Mapping[str, Any]) -> None:
    holder = _linked(graph, sampler.get("inputs", {}).get("guider")) or sampler
    for option, names in (("prompt", ("positive", "conditioning")), ("negative", ("negative",))):
        link = next((value for name in names if (value := holder.get("inputs", {}).get(name)) is not None), None)
        node = _linked(graph, link)
        texts = [] if node is None else [text for _, each in _upstream(graph, node) if (text := _text(graph, each))]
        if len(texts) > 1:
            recipe.lost.append(f"{len(texts) - 1} more texts in the {option}, which are combined there")
        setattr(recipe, option, texts[0] if texts else "")


def _text(graph: Graph, node: Mapping[str, Any]) -> str | None:
    if not str(node.get("class_type", "")).startswith("CLIPTextEncode"):
        return None
    inputs = node.get("inputs", {})
    text = _value(graph, inputs.get("text", inputs.get("text_g", inputs.get("clip_l"))), ("value", "text", "string"))
    return text if isinstance(text, str) else None


def _latents(recipe: Recipe, graph: Graph, sampler: Mapping[str, Any]) -> None:
    inputs = sampler.get("inputs", {})
    node = _linked(graph, inputs.get("latent_image"))
    for _, each in _upstream(graph, node) if node is not None else ():
        its = each.get("inputs", {})
        if str(each.get("class_type", "")).startswith("Empty") and "width" in its:
            for name in ("width", "height"):
                recipe.number(name, _value(graph, its[name], ("value", name)), int)
            if its.get("batch_size", 1) != 1:
                recipe.lost.append("other pictures of the batch, whose noise goes on after the first's")
            return
        if each.get("class_type") == "LoadImage":
            recipe.source = str(its.get("image"))
            recipe.strength = 1.0 if recipe.strength is None else recipe.strength
            return
