"""Settings in the workflows of ComfyUI: the graph of nodes that a picture's file holds as JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sfumato.errors import SfumatoError
from sfumato.provenance.embedded import Embedded
from sfumato.provenance.readers import a1111
from sfumato.provenance.readers.conditioning import words_of
from sfumato.provenance.readers.graph import Graph, Node, is_link
from sfumato.provenance.readers.loaders import take_model
from sfumato.provenance.readers.passes import LEAST, Pass, chain, enlarged_after, enlarging, origin_of, size_of
from sfumato.provenance.readers.sampler_nodes import SAMPLER_NODES, SCHEDULE_NODES, inputs_of, share_of, tune
from sfumato.provenance.recipe import Recipe, base_name, number_in, shown

SCHEDULES = {"normal": "discrete"}
_SAMPLERS = {"uni_pc_bh2": "unipc_bh2", "uni_pc": "unipc"}
# Nodes that change nothing of what we read, or that we read, or whose place in the chain is named.
_UNDERSTOOD = {
    "KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced", "CheckpointLoaderSimple",
    "CheckpointLoader", "UNETLoader", "CLIPLoader", "DualCLIPLoader", "TripleCLIPLoader", "CLIPTextEncode",
    "CLIPTextEncodeSDXL", "CLIPTextEncodeSDXLRefiner", "CLIPTextEncodeSD3", "CLIPSetLastLayer", "EmptyLatentImage",
    "EmptySD3LatentImage", "VAEDecode", "VAEDecodeTiled", "VAEEncode", "VAEEncodeTiled", "LoadImage", "SaveImage",
    "PreviewImage", "KSamplerSelect", "BasicScheduler", "RandomNoise", "CFGGuider", "BasicGuider", "ImageScale",
    "ModelSamplingSD3", "Note", "Reroute", "PrimitiveNode", "RescaleCFG", "ConditioningZeroOut", "LatentUpscale",
    "LatentUpscaleBy", "UpscaleModelLoader", "ControlNetLoader", "CLIPVisionLoader", "VAELoader", "LoraLoader",
    "LoraLoaderModelOnly", "PrimitiveStringMultiline", "PrimitiveString", "PrimitiveInt", "PrimitiveFloat",
    "StringConcatenate", "ImageUpscaleWithModel", "PerturbedAttentionGuidance", "Power Lora Loader (rgthree)",
    *SAMPLER_NODES, *SCHEDULE_NODES,
}  # fmt: skip


def graph_in(found: Embedded) -> Graph | None:
    """The graph that a file holds, under whichever name: nodes, or nodes inside what servers and editors save."""
    for data in found.objects.values():
        entries = [one["prompt"] for one in list(data.values())[:1] if isinstance(one, Mapping) and "prompt" in one]
        for one in (data, data.get("prompt"), data.get("output"), *entries):  # the last of a server's history
            queued = one[2] if isinstance(one, list) and len(one) > 2 else one
            if isinstance(queued, Mapping) and (graph := Graph(queued)).nodes:
                return graph
    return None


def read(found: Embedded) -> Recipe | None:
    """The recipe of the picture in a graph; an infotext beside it fills what the graph leaves open.

    Raises SfumatoError for a graph without a sampler and for a workflow of ComfyUI's editor.
    """
    graph = graph_in(found)
    text = found.texts.get("parameters", found.texts.get("UserComment", ""))
    beside = a1111.read(text) if "Steps:" in text and not text.lstrip().startswith("{") else None
    if graph is None:
        drafts = (one for one in found.objects.values() if isinstance(one.get("nodes"), list) and "edges" not in one)
        if next(drafts, None) is None or beside is not None:
            return None
        raise SfumatoError("it holds a workflow for ComfyUI's editor; save it in the API format, or give a picture")
    if not has_sampler(graph):
        if beside is not None:
            return None
        if any("extraMetadata" in one for one in found.objects.values()):
            return None
        known = "KSampler, SamplerCustom"
        raise SfumatoError(f"the workflow has no sampler that is known here ({known}); nothing to replay")
    recipe = of_graph(graph, found.size)
    if beside is not None:
        recipe.rules.append("the workflow in the file decides; its text of settings fills what that leaves open")
        recipe = completed(recipe, beside)
    return recipe


def has_sampler(graph: Graph) -> bool:
    """Whether any node samples."""
    return any(node.samples for node in graph.nodes.values())


def completed(recipe: Recipe, beside: Recipe) -> Recipe:
    """A recipe with what it leaves open taken from another of the same picture."""
    for option in ("steps", "cfg", "seed", "width", "height", "sampler", "schedule", "clip_skip"):
        if recipe.options.get(option) is None and beside.options.get(option) is not None:
            recipe.options[option] = beside.options[option]
    recipe.prompt = recipe.prompt or ("" if beside.prompt == "unknown" else beside.prompt)
    recipe.model = recipe.model or beside.model
    recipe.model_hash = recipe.model_hash or beside.model_hash
    return recipe


def follow(recipe: Recipe) -> None:
    """ComfyUI's habits."""
    recipe.options |= {"rng": "cpu", "emphasis": "comfy", "prompt_syntax": "comfyui"}
    recipe.rules += [
        "noise: first noise drawn on the CPU",
        "prompt: only ( ) weigh; emphasis: towards and away from the encoding of an empty prompt",
    ]
    if recipe.random_steps():
        recipe.lost.append("noise that a sampler adds on the way is drawn otherwise")


def of_graph(graph: Graph, size: tuple[int, int] = (0, 0)) -> Recipe:
    """The recipe of the picture of this size that a graph draws."""
    end, passes = chain(graph, size)
    recipe = Recipe("ComfyUI")
    last, before = passes[-1], passes[:-1]
    as_drawn = min(size) >= LEAST and not any(side % 8 for side in size) and not enlarged_after(graph, end)
    drawn = size if as_drawn else None
    if before and _goes_on(graph, before[-1], last):
        _refined(recipe, graph, passes)
    elif before and _again(graph, before[-1], last):
        _hires(recipe, graph, passes, drawn)
    else:
        _one(recipe, graph, last)
        if before:
            _after(recipe, graph, passes, drawn)
    if drawn is not None and "width" not in recipe.options:
        recipe.options["width"], recipe.options["height"] = drawn
    follow(recipe)
    _around(recipe, graph, end, passes)
    return recipe


def _one(recipe: Recipe, graph: Graph, one: Pass) -> None:
    """What one sampler does, all but its place among others."""
    inputs = inputs_of(graph, one.node)
    steps = graph.value(inputs.get("steps"), ("steps",))
    if steps is not None:
        recipe.number("steps", steps, int)
    if graph.value(inputs.get("add_noise", "enable"), ("add_noise",)) not in ("disable", False):
        seed = graph.value(inputs.get("seed", inputs.get("noise_seed")), ("seed", "noise_seed"))
        if seed is not None:
            recipe.number("seed", seed, int)
    cfg = graph.value(inputs.get("cfg", inputs.get("cfg_conds", 1)), ("cfg",))
    recipe.number("cfg", 1 if cfg is None else cfg, float)
    schedule = str(graph.value(inputs.get("scheduler", "normal"), ("scheduler",)))
    name = str(graph.value(inputs.get("sampler_name", "euler"), ("sampler_name",)))
    recipe.sampler(_SAMPLERS.get(name, name), SCHEDULES.get(schedule, schedule))
    recipe.rules.append(f"sigma list: {schedule}")
    tune(recipe, graph, one.node)
    words = words_of(graph, one.node)
    recipe.prompt, recipe.negative = words.prompt, words.negative
    recipe.lost += words.lost
    recipe.rules += words.rules
    take_model(recipe, graph, one.node, words)
    _start(recipe, graph, one)
    _levels(recipe, graph, inputs, one)


def _levels(recipe: Recipe, graph: Graph, inputs: Mapping[str, Any], one: Pass) -> None:
    """Part of a list of noise levels: on a picture its last steps, from words its levels alone."""
    steps = recipe.options.get("steps")
    share = share_of(graph, inputs)
    end = number_in(graph.value(inputs.get("end_at_step", steps), ("end_at_step",)))
    last = int(end) if isinstance(end, int | float) and steps and end < steps else None
    if share is not None:
        taken, total = share
        recipe.options["steps"] = total
        recipe.rules.append(f"denoise: the last {taken} of {total} steps")
        if recipe.strength is not None:
            recipe.strength = taken / total
        else:
            recipe.levels = (total - taken, total)
    if last is not None and recipe.strength is None:
        recipe.levels = (recipe.levels[0] if recipe.levels else 0, last)
        if graph.value(inputs.get("return_with_leftover_noise"), ()) == "enable":
            recipe.lost.append(f"noise that step {last} of {steps} left in the picture")
    elif last is not None:
        recipe.lost.append(f"it ended at step {last} of {steps}")


def _start(recipe: Recipe, graph: Graph, one: Pass) -> None:
    """The size, and whether there was a picture below."""
    found = size_of(graph, one)
    if found is not None:
        recipe.options["width"], recipe.options["height"] = found
    begins = one.begins
    if begins is None:
        return
    batch = number_in(graph.value(begins.inputs.get("batch_size", 1), ("batch_size",)))
    if batch is not None and batch > 1:
        recipe.lost.append("other pictures of the batch, whose noise goes on after the first's")
    if any(node.kind.startswith("VAEEncode") or "pixels" in node.inputs for node in one.changed):
        recipe.strength = 1.0
        recipe.source = shown(begins.inputs.get("image", begins.kind))
    for node in one.changed:
        if any(mark in node.kind for mark in ("Inpaint", "NoiseMask")) or is_link(node.inputs.get("mask")):
            recipe.lost.append(f"{node.kind}: where the picture was drawn")


def _goes_on(graph: Graph, first: Pass, second: Pass) -> bool:
    """Whether the second takes over where the first left off, in the same list of noise levels."""
    a, b = inputs_of(graph, first.node), inputs_of(graph, second.node)
    start = number_in(graph.value(b.get("start_at_step", 0), ("start_at_step",))) or 0
    end = number_in(graph.value(a.get("end_at_step"), ("end_at_step",)))
    unnoised = graph.value(b.get("add_noise", "enable"), ("add_noise",)) in ("disable", False)
    return start > 0 and unnoised and end is not None and not enlarging(second)


def _refined(recipe: Recipe, graph: Graph, passes: list[Pass]) -> None:
    """A base and what goes on from it: the same model all the way, or its refiner."""
    first, second = passes[-2], passes[-1]
    if len(passes) > 2:
        recipe.lost.append(f"{len(passes) - 2} samplers before, whose picture these two went on from")
    _one(recipe, graph, first)
    recipe.levels = None
    recipe.lost = [one for one in recipe.lost if not one.startswith(("noise that step", "it ended at"))]
    other = Recipe("")
    _one(other, graph, second)
    a, b = inputs_of(graph, first.node), inputs_of(graph, second.node)
    step = int(number_in(graph.value(b.get("start_at_step", 0), ("start_at_step",))) or 0)
    steps = recipe.options.get("steps") or 0
    # The share of the whole list at which the first began.
    start = int(number_in(graph.value(a.get("start_at_step", 0), ("start_at_step",))) or 0)
    if start and recipe.strength is not None and steps:
        recipe.strength = (steps - start) / steps
    elif start:
        recipe.levels = (start, steps)
    if other.model != recipe.model:
        recipe.refiner, recipe.switch_step = other.model, step
        recipe.rules.append(f"refiner: {other.model} from step {step} of {steps} on")
    for name, mine, its in (
        ("prompt", recipe.prompt, other.prompt), ("negative prompt", recipe.negative, other.negative),
        ("sampler", recipe.options.get("sampler"), other.options.get("sampler")),
        ("CFG scale", recipe.options.get("cfg"), other.options.get("cfg")),
    ):  # fmt: skip
        if mine != its:
            recipe.lost.append(f"the {name} of the second sampler: {shown(its)}")


def _again(graph: Graph, first: Pass, second: Pass) -> bool:
    """Whether the second is a hires pass: it draws over an enlarged first, with the same words, model and sampler."""
    if not enlarging(second) or first.begins is None:
        return False
    one, two = Recipe(""), Recipe("")
    _one(one, graph, first)
    _one(two, graph, second)
    same = all(one.options.get(name) == two.options.get(name) for name in ("sampler", "schedule", "cfg", "clip_skip"))
    began = one.strength is None and one.levels is None and share_of(graph, inputs_of(graph, second.node)) is not None
    return began and same and (one.prompt, one.negative, one.model) == (two.prompt, two.negative, two.model)


def _hires(recipe: Recipe, graph: Graph, passes: list[Pass], drawn: tuple[int, int] | None) -> None:
    """Two passes as one recipe."""
    first, second = passes[-2], passes[-1]
    _one(recipe, graph, first)
    size = recipe.options.get("width", 0), recipe.options.get("height", 0)
    larger = size_of(graph, Pass(second.node, [*first.changed, *second.changed]))
    if drawn is not None and (larger is None or larger == size):  # the nodes do not say, but the picture shows
        larger = drawn
    if larger is not None and all(size):
        recipe.options["hires_scale"] = max(larger[0] / size[0], larger[1] / size[1])
        if larger[0] * size[1] != larger[1] * size[0]:
            recipe.lost.append(f"the second pass has the size {larger[0]}x{larger[1]}")
    else:
        recipe.options["hires_scale"] = 2.0
        recipe.lost.append("the size of the second pass, which follows from a file of the workflow; 2 times is taken")
    share = share_of(graph, inputs_of(graph, second.node))
    assert share is not None  # or it were no second pass
    recipe.second_pass(*share)
    in_pixels = any(node.kind.startswith("VAEDecode") for node in second.changed)
    recipe.options["hires_upscaler"] = "lanczos" if in_pixels else "latent"
    for node in enlarging(second):
        filter_ = node.inputs.get("upscale_method")
        if not is_link(node.inputs.get("upscale_model")) and filter_ == ("lanczos" if in_pixels else "bilinear"):
            continue
        taken = "Lanczos' filter" if in_pixels else "bilinear"
        its = shown(filter_ or _model_of(graph, node))
        recipe.lost.append(f"{node.kind} ({its}) between the passes; {taken} is taken")
    other = Recipe("")
    _one(other, graph, second)
    if other.options.get("seed", recipe.options.get("seed")) != recipe.options.get("seed"):
        recipe.lost.append(f"the seed of the second pass, {other.options.get('seed')}; that of the first is taken")


def _model_of(graph: Graph, node: Node) -> object:
    loader = graph.linked(node.inputs.get("upscale_model"))
    return "no file" if loader is None else graph.value(loader.inputs.get("model_name"))


def _after(recipe: Recipe, graph: Graph, passes: list[Pass], drawn: tuple[int, int] | None) -> None:
    """A pass that goes on from another sampler's picture, of which the file holds nothing."""
    last, before = passes[-1], passes[-2].node
    share = share_of(graph, inputs_of(graph, last.node))
    recipe.levels = None
    larger = drawn or size_of(graph, Pass(last.node, [node for one in passes for node in one.changed]))
    if larger is not None:
        recipe.options["width"], recipe.options["height"] = larger
    if share is None:
        recipe.strength = None
        recipe.lost.append(f"another sampler's picture (node {before.key}), of which full noise leaves hardly anything")
    else:
        recipe.strength = share[0] / share[1]
        recipe.source = f"another sampler's picture in the same workflow, node {before.key}"


def _around(recipe: Recipe, graph: Graph, end: Node, passes: list[Pass]) -> None:
    """What happened after sampling, what else the workflow has, and nodes that are not understood."""
    named: set[str] = set()
    for node in origin_of(graph, end)[1]:
        if node.redraws:
            recipe.lost.append(f"{node.kind} drew over the finished picture")
        elif "upscale_model" in node.inputs:
            recipe.lost.append(f"{node.kind} ({shown(_model_of(graph, node))}) enlarged the finished picture")
        elif not node.kind.startswith("VAEDecode") and any(is_link(value) for value in node.inputs.values()):
            recipe.lost.append(f"{node.kind} changed the finished picture")
        named.add(node.kind)
    said = {re.split(r":? ", line, maxsplit=1)[0] for line in recipe.lost}
    used = {node.key for node in graph.upstream(end)}
    for node in (graph.nodes[key] for key in graph.nodes if key in used):
        kind = node.kind
        if kind == "VAELoader":
            recipe.lost.append(f"VAE {base_name(node.inputs.get('vae_name'))}, in place of the model's own")
        elif kind not in _UNDERSTOOD and kind not in named and node is not end and kind not in said:
            recipe.lost.append(f"node {shown(kind)}")
        named.add(kind)
    others = [node.key for node in graph.nodes.values() if node.samples and all(node is not one.node for one in passes)]
    if others:
        recipe.lost.append(f"{len(others)} more samplers in the workflow (nodes {', '.join(others[:10])})")
    recipe.lost = list(dict.fromkeys(recipe.lost))
