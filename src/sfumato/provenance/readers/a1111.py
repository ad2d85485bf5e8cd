"""Settings as AUTOMATIC1111's web UI and Forge write them, and as we do."""

from __future__ import annotations

import re
from collections.abc import Mapping

from sfumato.diffusion.options import FIELDS
from sfumato.provenance import infotext
from sfumato.provenance.recipe import Recipe

OURS = "sfumato"
HIRES_UPSCALERS = ("latent", "lanczos")
_NUMBERS = {
    "Steps": ("steps", int),
    "CFG scale": ("cfg", float),
    "Seed": ("seed", int),
    "Clip skip": ("clip_skip", int),
    "Variation seed": ("variation_seed", int),
    "Variation seed strength": ("variation_strength", float),
    "Aesthetic score": ("aesthetic_score", float),
    "CFG Rescale": ("cfg_rescale", float),
    "SLG Scale": ("slg", float),
    "APG Eta": ("apg_eta", float),
    "APG Norm Threshold": ("apg_norm", float),
    "APG Momentum": ("apg_momentum", float),
    "Threshold percentile": ("threshold", float),
    "Mimic scale": ("mimic_scale", float),
    "Threshold limit": ("threshold_limit", float),
    "PAG Scale": ("pag", float),
    "CLIP Guidance Scale": ("clip_guidance", float),
    "Hires upscale": ("hires_scale", float),
    "Hires steps": ("hires_steps", int),
}
_INTERVALS = {
    "CFG Interval": "cfg_interval",
    "SLG Interval": "slg_interval",
    "PAG Interval": "pag_interval",
    "CLIP Guidance Interval": "clip_interval",
}
_PAIRS = {"Original size": "original_size", "Crop": "crop", "Target size": "target_size"}
_CFG_PP = " CFG++"
_SCHEDULES = ("Karras", "Exponential", "Polyexponential", "SGM Uniform")
_EMPHASIS = {"Original": "a1111", "No norm": "plain", "None": "none", "Ignore": "none", "ComfyUI": "comfy"}
# Names of things, or what follows from the rest; and what is read below.
_TOLD = {
    "Sampler", "Schedule type", "Sigmas", "Size", "Model", "Model hash", "VAE", "VAE hash", "Version", "RNG",
    "Emphasis", "Hashes", "Denoising strength", "Template", "Negative Template", "Wildcard prompt",
    "Wildcard negative prompt", "Batch size", "Batch pos", "User", "Module 1", "Module 2", "Module 3",
    "Beta schedule type", "Tiling", "Lora hashes", "TI hashes", "Prompt syntax", "PAG Layers",
    "Hires upscaler", "Best of", "CLIP score", "Depth",
}  # fmt: skip


def read(text: str) -> Recipe:
    """The recipe in an infotext; any text is a prompt at least."""
    prompt, negative, fields = infotext.parse(text)
    version = fields.get("Version", "")
    if version.startswith(OURS):
        recipe = Recipe(OURS, prompt, negative)
    else:
        forge = version.startswith("f") or "forge" in version.lower()
        recipe = Recipe("Forge" if forge else "AUTOMATIC1111", prompt, negative)
    known = {*_NUMBERS, *_INTERVALS, *_PAIRS, *FIELDS.values(), *_TOLD}
    for name, (option, kind) in _NUMBERS.items():
        if name in fields:
            recipe.number(option, fields[name], kind)
    for name, option in {"Size": "size", **_PAIRS}.items():
        if match := re.fullmatch(r"(\d+)x(\d+)", fields.get(name, "")):
            recipe.options[option] = int(match[1]), int(match[2])
    if "size" in recipe.options:
        recipe.options["width"], recipe.options["height"] = recipe.options.pop("size")
    for name, option in _INTERVALS.items():
        recipe.options[option] = fields.get(name)
    if "APG Eta" in fields:
        recipe.options["apg"] = True
    if "PAG Layers" in fields:
        recipe.options["pag_layers"] = tuple(fields["PAG Layers"].split())
    recipe.model, recipe.model_hash = fields.get("Model"), fields.get("Model hash")
    _sampling(recipe, fields)
    _words(recipe, fields)
    _from_picture(recipe, fields)
    if fields.get("Tiling", "False") not in ("False", ""):
        recipe.options["tiling"] = "both" if fields["Tiling"] == "True" else fields["Tiling"].lower()
    recipe.lost += [f"{name} ({fields[name]})" for name in fields if name not in known]
    if recipe.program == OURS and not recipe.lost:
        recipe.rules.append("all settings are this program's own")
    return recipe


def _sampling(recipe: Recipe, fields: Mapping[str, str]) -> None:
    sampler, schedule = fields.get("Sampler"), fields.get("Schedule type")
    if sampler is not None:
        if sampler.endswith(_CFG_PP):
            sampler, recipe.options["cfg_pp"] = sampler.removesuffix(_CFG_PP), True
        old = next((name for name in _SCHEDULES if sampler.endswith(f" {name}")), None)  # before version 1.9
        if old is not None:
            sampler, schedule = sampler.removesuffix(f" {old}"), old
        recipe.sampler(sampler, None if schedule == "Automatic" or "Sigmas" in fields else schedule)
    for name in FIELDS.values():
        if name in fields:
            recipe.tune(name, fields[name])
    if sigmas := fields.get("Sigmas"):
        recipe.options["sigmas"] = [float(sigma) for sigma in sigmas.split(",") if _is_number(sigma.strip())]
        recipe.options["steps"] = recipe.options["schedule"] = None
    if recipe.program == OURS:
        recipe.options["rng"] = fields.get("RNG", "CPU").lower()
        return
    source = fields.get("RNG", "GPU")
    recipe.options["rng"] = "cpu" if source == "CPU" else "nv"
    where = {"CPU": "drawn on the CPU"}.get(source, "that of a CUDA GPU, computed here")
    recipe.rules.append(f"noise: {where}, one stream per picture")
    usual = "the one that the sampler is used with" if schedule in (None, "Automatic") else "as named"
    recipe.rules.append(f"sigma list: {schedule or 'none named'}, {usual}")
    if recipe.options.get("variation_strength"):
        recipe.lost.append("the arc between seeds is taken over whole latents, there row by row")
    if "SDE" in (sampler or ""):
        recipe.lost.append("the Brownian path of this sampler is drawn otherwise, so details differ")


def _words(recipe: Recipe, fields: Mapping[str, str]) -> None:
    named = fields.get("Emphasis", "Original")
    if named in _EMPHASIS:
        recipe.options["emphasis"] = _EMPHASIS[named]
    else:
        recipe.lost.append(f"emphasis {named!r}")
    recipe.options["prompt_syntax"] = fields.get("Prompt syntax", "a1111")
    if recipe.program != OURS:
        recipe.rules.append(f"emphasis: {'mean of the encoding restored' if named == 'Original' else named}")


def _from_picture(recipe: Recipe, fields: Mapping[str, str]) -> None:
    strength, program, steps = fields.get("Denoising strength"), recipe.program, recipe.options.get("steps") or 0
    if not _is_number(strength):
        return
    share = float(strength or 0)
    again = "Hires upscale" in fields
    if again:
        steps = recipe.options.get("hires_steps") or steps
    if program != OURS and steps:  # theirs takes one step more than the share
        share = min(1.0, (int(min(share, 0.999) * steps) + 1) / steps)
        recipe.rules.append(f"strength: {round(share * steps)} of {steps} steps, one more than the share")
    if not again:
        recipe.strength = share
        return
    recipe.options["hires_strength"] = share
    upscaler = fields.get("Hires upscaler", "Latent").lower()
    recipe.options["hires_upscaler"] = upscaler if upscaler in HIRES_UPSCALERS else "lanczos"
    if upscaler not in HIRES_UPSCALERS:
        recipe.lost.append(f"the upscaler of the second pass ({fields['Hires upscaler']}); Lanczos' filter is taken")


def _is_number(text: str | None) -> bool:
    return bool(re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", text or ""))
