"""Settings as NovelAI writes them: a JSON object in `Comment`, in EXIF or in the pixels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sfumato.provenance.embedded import Embedded, json_object, mended
from sfumato.provenance.recipe import Numbers, Recipe

STEP = 1.05  # what { } multiply and [ ] divide by
_NUMBERS: Numbers = {
    "steps": ("steps", int),
    "scale": ("cfg", float),
    "seed": ("seed", int),
    "width": ("width", int),
    "height": ("height", int),
    "cfg_rescale": ("cfg_rescale", float),
}
_SAMPLERS = {"ddim_v3": "ddim", "k_dpmpp_2m": "dpmpp_2m", "k_dpm_fast": "dpm_fast"}
_SCHEDULES = {"native": "discrete"}
_MARKED = re.compile(r"(-?\d{1,3}(?:\.\d{1,4})?)::|::|[{}\[\]]|[()\\]")
_MOST = 10.0  # a weight beyond which nothing is seen


def read(found: Embedded) -> Recipe | None:
    """The recipe in a file of this program."""
    for texts in (found.texts, *found.objects.values()):
        comment = texts.get("Comment")
        data = json_object(comment) if isinstance(comment, str) else None
        named = str(texts.get("Software", "")).startswith("NovelAI")
        if data is not None and "steps" in data and ("uc" in data or named):
            return _of_comment(data, texts, found.size)
    return None


def _of_comment(data: Mapping[str, Any], texts: Mapping[str, Any], size: tuple[int, int]) -> Recipe:
    recipe = Recipe("NovelAI")
    recipe.prompt = translated(str(data.get("prompt") or mended(str(texts.get("Description") or ""))))
    recipe.negative = translated(str(data.get("uc") or ""))
    recipe.numbers(data, _NUMBERS)
    if "width" not in data and min(size) >= 64:  # the first version did not say it
        recipe.options["width"], recipe.options["height"] = size
    name = str(data.get("sampler") or "k_euler_ancestral")
    schedule = data.get("noise_schedule")
    recipe.sampler(_SAMPLERS.get(name, name), _SCHEDULES.get(str(schedule), str(schedule)) if schedule else None)
    recipe.model = str(texts.get("Source") or texts.get("Software") or "") or None
    recipe.options |= {"rng": "cpu", "emphasis": "a1111", "prompt_syntax": "comfyui"}
    recipe.rules.append("prompt: { } weigh by 1.05, [ ] by 1/1.05, and 1.2::words:: by 1.2; they are translated")
    _on_picture(recipe, data)
    for name in ("v4_prompt", "v4_negative_prompt"):
        recipe.lost += _characters(name, data.get(name))
    for name in ("sm", "sm_dyn", "dynamic_thresholding", "variety_boost", "prefer_brownian"):
        if data.get(name):
            recipe.lost.append(f"{name} of NovelAI")
    for name in ("reference_strength_multiple", "reference_strength", "controlnet_model", "lora_unet_weights"):
        if data.get(name):
            recipe.lost.append(f"{name.replace('_', ' ')}, of pictures that the file does not hold")
    return recipe


def _on_picture(recipe: Recipe, data: Mapping[str, Any]) -> None:
    """Old files name a strength whether or not there was a picture; newer ones say what was asked for."""
    request = str(data.get("request_type") or "")
    if request.startswith(("Img2Img", "NativeInfill")) and isinstance(data.get("strength"), int | float):
        recipe.strength = float(data["strength"])
    elif not request and data.get("strength") is not None:
        recipe.lost.append(
            f"strength {data['strength']}, if it was drawn on a picture: the file does not say; it is drawn from words"
        )


def _characters(name: str, prompt: object) -> list[str]:
    caption = prompt.get("caption") if isinstance(prompt, Mapping) else None
    listed = caption.get("char_captions") if isinstance(caption, Mapping) else None
    said = [one for one in listed or [] if isinstance(one, Mapping) and one.get("char_caption")]
    return [f"{len(said)} prompts for characters in {name}"] if said else []


def translated(prompt: str) -> str:
    """A prompt whose weights are written as (words:1.05)."""
    runs: list[tuple[float, str]] = []
    braces, stated, place = 0, 1.0, 0
    for match in (*_MARKED.finditer(prompt), None):
        end = len(prompt) if match is None else match.start()
        if prompt[place:end]:
            runs.append((stated * STEP**braces, prompt[place:end]))
        if match is None:
            break
        place, mark = match.end(), match[0]
        if mark in "()\\":
            runs.append((stated * STEP**braces, f"\\{mark}" if mark != "\\" else mark))
        elif mark in "{}[]":
            braces = max(-40, min(40, braces + (1 if mark in "{]" else -1)))
        else:
            stated = float(match[1]) if match[1] else 1.0
    weights: list[tuple[float, list[str]]] = []
    for weight, text in runs:
        if weights and weights[-1][0] == weight:
            weights[-1][1].append(text)
        else:
            weights.append((weight, [text]))
    joined = ((weight, "".join(texts)) for weight, texts in weights)
    return "".join(
        text if round(weight, 4) == 1 else f"({text}:{max(-_MOST, min(_MOST, weight)):.4g})" for weight, text in joined
    )
