"""Settings as Easy Diffusion writes them: a text for each, or one JSON object, by names or by labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sfumato.provenance.embedded import Embedded
from sfumato.provenance.recipe import Numbers, Recipe, base_name, number_in

_NAMES = {
    "Prompt": "prompt", "Negative Prompt": "negative_prompt", "Seed": "seed", "Sampler": "sampler_name",
    "Steps": "num_inference_steps", "Guidance Scale": "guidance_scale", "Width": "width", "Height": "height",
    "Stable Diffusion model": "use_stable_diffusion_model", "VAE model": "use_vae_model", "Clip Skip": "clip_skip",
    "Prompt Strength": "prompt_strength", "Hypernetwork model": "use_hypernetwork_model", "Tiling": "tiling",
    "LoRA model": "use_lora_model", "LoRA Strength": "lora_alpha", "Scheduler": "scheduler_name",
}  # fmt: skip
_MARKS = ("num_inference_steps", "use_stable_diffusion_model", "guidance_scale", "sampler_name")
_NUMBERS: Numbers = {
    "num_inference_steps": ("steps", int),
    "guidance_scale": ("cfg", float),
    "seed": ("seed", int),
    "width": ("width", int),
    "height": ("height", int),
}
_SAMPLERS = {"plms": "plms", "unipc_snr": "unipc", "unipc_tq": "unipc", "unipc_tu": "unipc", "dpm2": "dpm_2"}
_TOLD = {
    *_NUMBERS, "prompt", "negative_prompt", "sampler_name", "scheduler_name", "use_stable_diffusion_model",
    "clip_skip", "tiling", "prompt_strength", "output_format", "output_quality", "output_lossless",
    "stream_progress_updates", "stream_image_progress", "show_only_filtered_image", "metadata_output_format",
    "original_prompt", "vram_usage_level", "block_nsfw", "save_to_disk_path",
    "num_outputs", "used_random_seed", "enable_vae_tiling", "created_by",
}  # fmt: skip


def read(found: Embedded) -> Recipe | None:
    """The recipe in texts or an object of this program: two of the marks beside a prompt."""
    for data in (found.texts, *found.objects.values()):
        named = {_NAMES.get(name, name): value for name, value in data.items()}
        marks = sum(mark in named for mark in _MARKS)
        if marks >= 2 and ("sampler_name" in named or _MARKS[1] in named) and isinstance(named.get("prompt"), str):
            return _of_names(named)
    return None


def _of_names(data: Mapping[str, Any]) -> Recipe:
    recipe = Recipe("Easy Diffusion", str(data["prompt"]), str(data.get("negative_prompt") or ""))
    recipe.numbers(data, _NUMBERS)
    if data.get("sampler_name"):
        name = str(data["sampler_name"])
        recipe.sampler(_SAMPLERS.get(name, name), str(data["scheduler_name"]) if data.get("scheduler_name") else None)
    if data.get("use_stable_diffusion_model"):
        recipe.model = base_name(data["use_stable_diffusion_model"])
    skip = data.get("clip_skip")
    if str(skip).lower() == "true" or (number_in(skip) or 0) > 1:
        recipe.options["clip_skip"] = 2
    tiling = str(data.get("tiling") or "none").lower()
    if tiling not in ("none", "false"):
        recipe.options["tiling"] = tiling if tiling in ("x", "y") else "both"
    if (share := number_in(data.get("prompt_strength"))) is not None:
        recipe.strength = float(share)
    recipe.options |= {"rng": "nv", "emphasis": "comfy", "prompt_syntax": "a1111"}
    recipe.rules += ["noise: that of a CUDA GPU, computed here", "prompt: ( ) weigh"]
    if any(mark in recipe.prompt + recipe.negative for mark in "()+"):
        recipe.lost.append("how weights of words act there, which depends on its version")
    recipe.rest({name: value for name, value in data.items() if name.isidentifier()}, _TOLD)
    return recipe
