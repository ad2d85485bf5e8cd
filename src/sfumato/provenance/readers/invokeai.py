"""Settings as InvokeAI writes them: a JSON object since version 3, another in version 2, a command line before."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sfumato.provenance.embedded import Embedded
from sfumato.provenance.recipe import Numbers, Recipe, base_name, number_in, shown

NO_NAME = "of no name"
MARKS = ("positive_prompt", "app_version", "generation_mode")
_NUMBERS: Numbers = {
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
    "k_dpmpp_2": "dpmpp_2m",
    "k_dpmpp_2_a": "dpmpp_2s_ancestral",
    "pndm": "plms",
}
_LEADING = ("ddim", "plms", "pndm", "ddpm")  # whose schedulers in diffusers begin their lists at time 1
_OLD = ("sd-1", "sd-2", "sd1", "sd2")
_TOLD = {
    *_NUMBERS, "positive_prompt", "negative_prompt", "scheduler", "model", "vae", "generation_mode", "rand_device",
    "app_version", "clip_skip", "strength", "init_image", "seamless_x", "seamless_y", "positive_style_prompt",
    "negative_style_prompt", "canvas_v2_metadata", "style_preset", "loras", "controlnets", "ipAdapters", "t2iAdapters",
    "refiner_model", "refiner_start", "refiner_steps", "refiner_cfg_scale", "refiner_scheduler",
    "refiner_positive_aesthetic_score", "refiner_negative_aesthetic_score", "hrf_enabled", "hrf_strength", "hrf_method",
    "hrf_width", "hrf_height",
}  # fmt: skip
_OPTIONS = {"-s": "steps", "-S": "seed", "-W": "width", "-H": "height", "-C": "cfg_scale", "-A": "sampler",
            "-f": "strength", "--strength": "strength", "--steps": "steps", "--seed": "seed", "--width": "width",
            "--height": "height", "--cfg_scale": "cfg_scale", "--sampler": "sampler", "-I": "init_img",
            "--init_img": "init_img"}  # fmt: skip


def read(found: Embedded) -> Recipe | None:
    """The recipe in a file of this program."""
    for name in ("invokeai_metadata", "sd-metadata"):
        data = found.objects.get(name, {})
        if isinstance(data.get("image"), Mapping) or any(mark in data for mark in MARKS):
            return of_data(data)
    for data in found.objects.values():
        if any(mark in data for mark in MARKS) or "invoke" in str(data.get("app_id", "")).lower():
            return of_data(data)
    return _dream(found.texts["Dream"]) if "Dream" in found.texts else None


def of_data(data: Mapping[str, Any]) -> Recipe:
    """The recipe in its metadata of any version."""
    return _version_2(data) if isinstance(data.get("image"), Mapping) else _version_3(data)


def _version_3(data: Mapping[str, Any]) -> Recipe:
    recipe = Recipe("InvokeAI", str(data.get("positive_prompt") or ""), str(data.get("negative_prompt") or ""))
    recipe.numbers(data, _NUMBERS)
    _habits(recipe, str(data.get("rand_device") or "cpu"))
    _model(recipe, data.get("model"))
    model = data["model"] if isinstance(data.get("model"), Mapping) else {}
    _sampler(recipe, str(data.get("scheduler") or "euler"), str(model.get("base", model.get("base_model"))))
    skipped = number_in(data.get("clip_skip"))
    if skipped:  # theirs counts the layers that are left out
        recipe.number("clip_skip", skipped + 1, int)
    mode = str(data.get("generation_mode") or "")
    if data.get("strength") is not None and mode.endswith(("img2img", "inpaint", "outpaint")):
        share = number_in(data["strength"])
        recipe.strength, recipe.source = float(share or 0), str(data.get("init_image") or "") or None
        recipe.lost += [] if mode.endswith("img2img") else [f"{mode}: where the picture was drawn"]
    if data.get("seamless_x") or data.get("seamless_y"):
        both = data.get("seamless_x") and data.get("seamless_y")
        recipe.options["tiling"] = "both" if both else "x" if data.get("seamless_x") else "y"
    for side, prompt in (("positive", recipe.prompt), ("negative", recipe.negative)):
        style = data.get(f"{side}_style_prompt")
        if style and style != prompt:
            recipe.lost.append(f"the {side} prompt for XL's second encoder: {shown(style)}")
    _loras(recipe, data.get("loras"))
    for name in ("controlnets", "ipAdapters", "t2iAdapters", "ref_images"):
        recipe.lost += [f"{name}: {_named(one)}" for one in data.get(name) or () if isinstance(data[name], list)]
    _refiner(recipe, data)
    if data.get("hrf_enabled"):
        recipe.lost.append(f"the high resolution fix (strength {shown(data.get('hrf_strength'))})")
    recipe.rest(data, {*_TOLD, "ref_images"})
    return recipe


def _version_2(data: Mapping[str, Any]) -> Recipe:
    """Up to 2.3: the settings lie in `image`, negative words in square brackets in the prompt."""
    image = data["image"]
    prompt = image.get("prompt")
    parts = prompt if isinstance(prompt, list) else [prompt]
    texts = [str(part.get("prompt") or "") if isinstance(part, Mapping) else str(part or "") for part in parts]
    recipe = Recipe("InvokeAI", *split_negative(" ".join(texts)))
    if len(texts) > 1:
        recipe.lost.append(f"{len(texts)} prompts that are weighed against each other; they are one here")
    recipe.numbers(image, _NUMBERS)
    _habits(recipe, "cuda")
    model = data.get("model_weights") or data.get("model")
    recipe.model = base_name(model) if model and model != "stable diffusion" else None
    recipe.model_hash = str(data["model_hash"]) if data.get("model_hash") else None
    _sampler(recipe, str(image.get("sampler") or "k_lms"), "sd-1")
    if str(image.get("type", "txt2img")) == "img2img":
        share = number_in(image.get("strength"))
        recipe.strength = 0.75 if share is None else float(share)
        recipe.source = str(image.get("orig_hash") or image.get("init_image_path") or "") or None
    if image.get("seamless"):
        recipe.options["tiling"] = "both"
    for one in image.get("postprocessing") or () if isinstance(image.get("postprocessing"), list) else ():
        recipe.lost.append(f"afterwards: {shown(one.get('type')) if isinstance(one, Mapping) else shown(one)}")
    told = {*_NUMBERS, "prompt", "sampler", "type", "strength", "seamless", "postprocessing", "orig_hash",
            "init_image_path", "fit"}  # fmt: skip
    recipe.rest(image, told)
    return recipe


def _dream(text: str) -> Recipe:
    """The command line of the first versions: "prompt" -s 50 -S 42 -W 512 -H 512 -C 7.5 -A k_lms."""
    prompt, quote, rest = text.strip().removeprefix('"').rpartition('" -')
    recipe = Recipe("InvokeAI", *split_negative(prompt if quote else rest.removesuffix('"')))
    words = f"-{rest}".split() if quote else []
    found: dict[str, str] = {}
    for place, word in enumerate(words):
        if not word.startswith("-") or number_in(word) is not None:
            continue
        value = words[place + 1] if place + 1 < len(words) else ""
        joined = word[:2] in _OPTIONS and len(word) > 2 and not word.startswith("--")
        key, value = (word[:2], word[2:]) if joined and word not in _OPTIONS else (word, value)
        if key in _OPTIONS:
            found.setdefault(_OPTIONS[key], value)
        else:
            recipe.lost.append(f"{key} {value}" if not value.startswith("-") else key)
    recipe.numbers(found, _NUMBERS)
    _habits(recipe, "cuda")
    _sampler(recipe, found.get("sampler", "k_lms"), "sd-1")
    if "init_img" in found:
        share = number_in(found.get("strength", "0.75"))
        recipe.strength, recipe.source = float(share or 0.75), found["init_img"]
    return recipe


def _habits(recipe: Recipe, device: str) -> None:
    recipe.options |= {"rng": "cpu" if device == "cpu" else "nv", "emphasis": "comfy", "prompt_syntax": "invokeai"}
    recipe.rules += [
        f"noise: drawn on the {'CPU' if device == 'cpu' else 'GPU, computed here'}",
        "emphasis: towards and away from the encoding of an empty prompt; word+ and (words)1.2 weigh",
    ]
    for prompt in (recipe.prompt, recipe.negative):
        for name in ("blend", "and", "swap"):
            if f".{name}(" in prompt:
                recipe.lost.append(f"{name}() in the prompt")
        if "withLora(" in prompt or "useLora(" in prompt:
            recipe.lost.append("withLora() in the prompt")
        if re.search(r"[\w)\"]-+(?=[\s,.)]|$)|\)0?\.\d", prompt):
            recipe.lost.append("words that weigh less than 1 are mixed with the prompt without them there")
            break


def _sampler(recipe: Recipe, scheduler: str, base: str) -> None:
    """Lists of noise levels are those of diffusers: up from time 1 for some schedulers and XL, else over all times."""
    name = scheduler.removesuffix("_k")
    karras, ours = name != scheduler, _SAMPLERS.get(name, name)
    old = any(mark in base.lower() for mark in _OLD)
    list_ = "karras" if karras else "leading" if not old or ours in _LEADING else "discrete"
    recipe.sampler(ours, list_ if ours != "lcm" else None)
    recipe.rules.append(f"sigma list: {'karras' if karras else f'{list_}, as in diffusers'}")


def _model(recipe: Recipe, model: object) -> None:
    if isinstance(model, Mapping):
        name = model.get("name") or model.get("model_name")
        recipe.model = str(name) if name else None
        recipe.lost += [] if recipe.model else ["the model has no name"]
    elif model is not None:
        recipe.model = base_name(model)


def _refiner(recipe: Recipe, data: Mapping[str, Any]) -> None:
    refiner, start = data.get("refiner_model"), number_in(data.get("refiner_start"))
    if isinstance(refiner, Mapping) and start is not None and 0 < start < 1:
        recipe.refiner = _named(refiner)
        recipe.options["switch_at"] = float(start)


def _loras(recipe: Recipe, listed: object) -> None:
    for one in listed if isinstance(listed, list) else ():
        weight = number_in(one.get("weight")) if isinstance(one, Mapping) else None
        name = _named({**one, "weight": None} if isinstance(one, Mapping) else one)
        if weight is None or name == NO_NAME:
            recipe.lost.append(f"loras: {_named(one)}")
        else:
            recipe.add_lora(base_name(name), float(weight), float(weight))


def _named(one: object) -> str:
    """The name of a thing in its metadata, which lies deeper in newer versions."""
    for _ in range(4):
        if not isinstance(one, Mapping):
            break
        if name := one.get("name") or one.get("model_name"):
            weight = f" ({one['weight']})" if isinstance(one.get("weight"), int | float) else ""
            return f"{shown(name)}{weight}"
        keys = ("model", "lora", "control_model", "ip_adapter_model", "t2i_adapter_model", "config")
        one = next((one[key] for key in keys if key in one), None)
    return NO_NAME


def split_negative(prompt: str) -> tuple[str, str]:
    """Prompt and negative prompt of version 2, which has the second in square brackets."""
    kept, away, place = [], [], 0
    while (start := prompt.find("[", place)) >= 0 and (end := prompt.find("]", start)) >= 0:
        kept.append(prompt[place:start])
        away.append(prompt[start + 1 : end])
        place = end + 1
    return re.sub(r" {2,}", " ", "".join(kept) + prompt[place:]).strip(), " ".join(away).strip()
