"""Settings as InvokeAI writes them: one JSON object in the picture's file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sfumato.provenance.recipe import Recipe

_NUMBERS = {
    "steps": ("steps", int),
    "cfg_scale": ("cfg", float),
    "seed": ("seed", int),
    "width": ("width", int),
    "height": ("height", int),
    "cfg_rescale_multiplier": ("cfg_rescale", float),
}
_SAMPLERS = {  # where theirs are not names of ours
    "euler_a": "euler_ancestral",
    "kdpm_2": "dpm_2",
    "kdpm_2_a": "dpm_2_ancestral",
    "dpmpp_sde": "dpmpp_sde",
    "pndm": "plms",
}
_TOLD = {
    *_NUMBERS, "positive_prompt", "negative_prompt", "scheduler", "model", "vae", "generation_mode", "rand_device",
    "app_version", "clip_skip", "strength", "init_image", "seamless_x", "seamless_y", "positive_style_prompt",
    "negative_style_prompt", "canvas_v2_metadata", "ref_images", "style_preset",
}  # fmt: skip


def read(data: Mapping[str, Any]) -> Recipe:
    """The recipe in InvokeAI's metadata."""
    recipe = Recipe("InvokeAI")
    for name, (option, kind) in _NUMBERS.items():
        if data.get(name) is not None:
            recipe.number(option, data[name], kind)
    for part, name in (("prompt", "positive_prompt"), ("negative", "negative_prompt")):
        text, lost = translated(str(data.get(name) or ""))
        setattr(recipe, part, text)
        recipe.lost += lost
    scheduler = str(data.get("scheduler", "euler"))
    karras = scheduler.endswith("_k")
    name = scheduler.removesuffix("_k")
    recipe.sampler(_SAMPLERS.get(name, name), "karras" if karras else "leading" if name != "lcm" else None)
    if data.get("clip_skip"):  # theirs counts the layers that are left out
        recipe.number("clip_skip", int(data["clip_skip"]) + 1, int)
    device = str(data.get("rand_device", "cpu"))
    recipe.options |= {"rng": "cpu" if device == "cpu" else "nv", "emphasis": "comfy", "prompt_syntax": "a1111"}
    recipe.rules += [
        f"noise: drawn on the {device.upper() if device == 'cpu' else 'GPU, computed here'}",
        "emphasis: towards and away from the encoding of an empty prompt; word+ and (words)1.2 are translated",
        f"sigma list: {'karras' if karras else 'leading, as in diffusers'}",
    ]
    model = data.get("model")
    if isinstance(model, Mapping):
        recipe.model = model.get("name") or model.get("model_name")
        recipe.lost += [] if recipe.model else ["the model has no name"]
    elif model is not None:
        recipe.model = str(model)
    if data.get("strength") is not None and data.get("generation_mode", "").endswith("img2img"):
        recipe.strength, recipe.source = float(data["strength"]), str(data.get("init_image") or "") or None
    if data.get("seamless_x") or data.get("seamless_y"):
        both = data.get("seamless_x") and data.get("seamless_y")
        recipe.options["tiling"] = "both" if both else "x" if data.get("seamless_x") else "y"
    recipe.lost += [f"{name} ({value})" for name, value in data.items() if value and name not in _TOLD]
    return recipe


_GROUP = re.compile(r"\(([^()]*)\)([+-]+|\d+(?:\.\d+)?)")
_WORD = re.compile(r"([^\s()+\-]+)([+-]+)(?=\s|,|$)")


def translated(prompt: str) -> tuple[str, list[str]]:
    """A prompt in compel's language in ours, and what of it cannot be said: (words)1.2, word++, word--."""
    lost = [f"{name}() in the prompt" for name in ("blend", "and", "swap") if f".{name}(" in prompt]

    def weight(mark: str) -> float:
        return float(mark) if mark[0].isdigit() else (1.1 if mark[0] == "+" else 0.9) ** len(mark)

    def group(match: re.Match[str]) -> str:
        return f"({match[1]}:{weight(match[2]):.4g})"

    return _WORD.sub(group, _GROUP.sub(group, prompt)), lost
