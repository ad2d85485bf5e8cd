"""Settings as SwarmUI writes them: a JSON object, in pictures of PNG beside the graph that ComfyUI drew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sfumato.provenance.embedded import Embedded
from sfumato.provenance.readers import comfyui
from sfumato.provenance.recipe import Numbers, Recipe, base_name, number_in, shown

MARK = "sui_image_params"
_NUMBERS: Numbers = {
    "steps": ("steps", int),
    "cfgscale": ("cfg", float),
    "seed": ("seed", int),
    "width": ("width", int),
    "height": ("height", int),
    "variationseed": ("variation_seed", int),
    "variationseedstrength": ("variation_strength", float),
}
_TOLD = {
    *_NUMBERS, "prompt", "negativeprompt", "model", "sampler", "scheduler", "aspectratio", "sidelength",
    "automaticvae", "swarm_version", "initimagecreativity", "initimage", "refinermethod", "refinerupscale",
    "refinercontrolpercentage", "refinerupscalemethod", "refinersteps", "clipstopatlayer", "images", "batchsize",
    "resolution", "refinermodel", "loras", "loraweights",
}  # fmt: skip


def read(found: Embedded) -> Recipe | None:
    """The recipe in a file of SwarmUI; the graph decides where there is one."""
    data = next((data for one in found.objects.values() if isinstance(data := one.get(MARK), Mapping)), None)
    if data is None:
        return None
    recipe = _of_params(data)
    graph = comfyui.graph_in(found)
    if graph is not None and comfyui.has_sampler(graph):
        drawn = comfyui.of_graph(graph, found.size)
        drawn.program = recipe.program
        recipe = comfyui.completed(drawn, recipe)
    models = next((one.get("sui_models") for one in found.objects.values() if MARK in one), None)
    for one in models if isinstance(models, list) else []:
        if isinstance(one, Mapping) and one.get("param") == "model" and isinstance(one.get("hash"), str):
            recipe.model_hash = one["hash"].removeprefix("0x")
    return recipe


def _of_params(data: Mapping[str, Any]) -> Recipe:
    recipe = Recipe("SwarmUI", str(data.get("prompt") or ""), str(data.get("negativeprompt") or ""))
    recipe.numbers(data, _NUMBERS)
    sampler, schedule = str(data.get("sampler") or "euler"), str(data.get("scheduler") or "normal")
    recipe.sampler(sampler, comfyui.SCHEDULES.get(schedule, schedule))
    recipe.model = base_name(data["model"]) if data.get("model") else None
    comfyui.follow(recipe)
    if (layer := number_in(data.get("clipstopatlayer"))) is not None:
        recipe.options["clip_skip"] = max(1, -int(layer))
    if data.get("initimagecreativity") is not None or data.get("initimage"):
        creativity = number_in(data.get("initimagecreativity", 0.6))
        recipe.strength = 0.6 if creativity is None else float(creativity)
    if "<" in recipe.prompt + recipe.negative:
        recipe.lost.append("marks of SwarmUI such as <segment:...> in the prompt, which are words here")
    for name, weight in zip(_listed(data.get("loras")), _listed(data.get("loraweights")), strict=False):
        strength = number_in(weight)
        if strength is not None:
            recipe.add_lora(base_name(name), float(strength), float(strength))
    _refined(recipe, data)
    recipe.rest(data, _TOLD)
    return recipe


def _listed(value: object) -> list[Any]:
    """A list, which some versions write as a text with commas."""
    return value if isinstance(value, list) else value.split(",") if isinstance(value, str) else []


def _refined(recipe: Recipe, data: Mapping[str, Any]) -> None:
    """Its refiner: another model that goes on, or a second pass over the enlarged picture."""
    share = number_in(data.get("refinercontrolpercentage"))
    scale = number_in(data.get("refinerupscale")) or 1
    if share is None or (share == 0 and scale == 1):
        return
    if data.get("refinermodel"):
        recipe.lost.append(f"the refiner {shown(data['refinermodel'])} from the last {share:g} of the steps on")
    elif scale > 1:
        steps = number_in(data.get("refinersteps")) or recipe.options.get("steps") or 20
        recipe.options |= {"hires_scale": float(scale), "hires_upscaler": "lanczos"}
        recipe.second_pass(max(1, round(share * steps)), int(steps))
        recipe.lost.append(f"{shown(data.get('refinerupscalemethod', 'its filter'))}; Lanczos' filter is taken")
