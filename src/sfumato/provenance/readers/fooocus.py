"""Settings as Fooocus, its kin and other programs on one JSON object write them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sfumato.provenance.embedded import Embedded, json_object
from sfumato.provenance.recipe import Numbers, Recipe, base_name, number_in, shown


@dataclass(frozen=True)
class Dialect:
    """The names under which a program writes its settings, and its habits.

    `marks` are the names of which all must be there; `values` a name that must have some value. `told` are names that
    say nothing of the picture, or what follows from the rest.
    """

    program: str
    marks: tuple[str, ...]
    prompt: str
    negative: str
    numbers: Numbers
    sampler: str = "sampler"
    schedule: str | None = None
    size: str | None = None
    model: str | None = None
    model_hash: str | None = None
    strength: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    rules: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    told: frozenset[str] = frozenset()
    value: tuple[str, str] | None = None

    def knows(self, data: Mapping[str, Any]) -> bool:
        """Whether an object is this program's."""
        said = self.value is None or str(data.get(self.value[0], "")).lower().startswith(self.value[1])
        return said and all(mark in data for mark in self.marks)

    def read(self, data: Mapping[str, Any]) -> Recipe:
        """The recipe in such an object."""
        recipe = Recipe(self.program, text_of(data.get(self.prompt)), text_of(data.get(self.negative)))
        recipe.numbers(data, self.numbers)
        recipe.options |= self.options
        if data.get(self.sampler):
            schedule = data.get(self.schedule) if self.schedule else None
            recipe.sampler(str(data[self.sampler]), str(schedule) if schedule else None)
        if self.size and data.get(self.size):
            recipe.size(data[self.size])
        if self.model and data.get(self.model):
            recipe.model = base_name(data[self.model])
        if self.model_hash and data.get(self.model_hash):
            recipe.model_hash = str(data[self.model_hash])
        if self.strength and (share := number_in(data.get(self.strength))) is not None and share < 1:
            recipe.strength = float(share)
        recipe.rules += self.rules
        recipe.lost += self.lost
        named = {self.prompt, self.negative, self.sampler, self.schedule, self.size, self.model, self.model_hash}
        recipe.rest(data, {*self.numbers, *self.told, *filter(None, (*named, self.strength, *self.marks))})
        if self.value:
            recipe.lost = [each for each in recipe.lost if not each.startswith(f"{self.value[0]} (")]
        return recipe


def text_of(value: object) -> str:
    """A prompt, which some programs write as a list of texts."""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value or "")


_FOOOCUS_HABITS = {"rng": "cpu", "emphasis": "a1111", "prompt_syntax": "comfyui"}
_FOOOCUS_RULES = ("noise: first noise drawn on the CPU", "prompt: only ( ) weigh; mean of the encoding restored")
_FOOOCUS_NUMBERS: Numbers = {
    "seed": ("seed", int),
    "steps": ("steps", int),
    "guidance_scale": ("cfg", float),
    "cfg": ("cfg", float),
    "width": ("width", int),
    "height": ("height", int),
    "clip_skip": ("clip_skip", int),
}
DIALECTS = (
    Dialect(
        "RuinedFooocus", ("Prompt", "Negative"), "Prompt", "Negative", _FOOOCUS_NUMBERS, "sampler_name", "scheduler",
        None, "base_model_name", "base_model_hash", "denoise", _FOOOCUS_HABITS, _FOOOCUS_RULES,
        told=frozenset({"software", "start_step"}),
    ),
    Dialect(
        "Fooocus", ("prompt", "base_model"), "prompt", "negative_prompt", _FOOOCUS_NUMBERS, "sampler", "scheduler",
        "resolution", "base_model", "base_model_hash", None, _FOOOCUS_HABITS, _FOOOCUS_RULES,
        ("sharpness and ADM guidance of Fooocus, which change its network's estimates",),
        frozenset({"metadata_scheme", "full_prompt", "full_negative_prompt", "version", "performance", "sharpness",
                   "adm_guidance", "refiner_switch", "loras", "vae", "created_by", "prompt_expansion", "software"}),
    ),
    Dialect(
        "a Hugging Face Space", ("prompt", "num_inference_steps", "guidance_scale", "resolution"), "prompt",
        "negative_prompt",
        {"seed": ("seed", int), "num_inference_steps": ("steps", int), "guidance_scale": ("cfg", float)},
        "sampler", None, "resolution", "Model", "Model hash", None,
        {"rng": "nv", "emphasis": "comfy", "prompt_syntax": "a1111"},
        ("noise: that of a CUDA GPU, computed here",),
        ("how its diffusers' pipeline weighs words",),
    ),
    Dialect(
        "tensor.art", ("prompt", "cfgScale", "ksamplerName"), "prompt", "negativePrompt",
        {"seed": ("seed", int), "steps": ("steps", int), "cfgScale": ("cfg", float), "width": ("width", int),
         "height": ("height", int), "clipSkip": ("clip_skip", int)},
        "ksamplerName", "schedule", options={"rng": "cpu", "emphasis": "comfy", "prompt_syntax": "comfyui"},
        told=frozenset({"baseModel", "imageCount", "sdVae", "sdxl", "guidance", "etaNoiseSeedDelta"}),
    ),
    Dialect(
        "Civitai", ("prompt", "cfgScale", "sampler", "steps"), "prompt", "negativePrompt",
        {"seed": ("seed", int), "steps": ("steps", int), "cfgScale": ("cfg", float), "width": ("width", int),
         "height": ("height", int), "clipSkip": ("clip_skip", int)},
        options={"rng": "nv", "emphasis": "a1111", "prompt_syntax": "a1111"},
        told=frozenset({"baseModel", "quantity", "draft", "aspectRatio", "workflow", "disablePoi"}),
    ),
    Dialect(
        "Stability Matrix", ("PositivePrompt", "CfgScale"), "PositivePrompt", "NegativePrompt",
        {"Seed": ("seed", int), "Steps": ("steps", int), "CfgScale": ("cfg", float), "Width": ("width", int),
         "Height": ("height", int)},
        "Sampler", None, None, "ModelName", "ModelHash",
        options={"rng": "cpu", "emphasis": "comfy", "prompt_syntax": "comfyui"},
        told=frozenset({"FrameCount", "MotionBucketId", "VideoQuality", "Fps", "OutputFps", "MinCfg",
                        "AugmentationLevel", "ModelVersionId"}),
    ),
    Dialect(
        "AUTOMATIC1111", ("prompt", "cfg_scale", "steps"), "prompt", "negative_prompt",
        {"seed": ("seed", int), "steps": ("steps", int), "cfg_scale": ("cfg", float), "width": ("width", int),
         "height": ("height", int), "subseed": ("variation_seed", int),
         "subseed_strength": ("variation_strength", float)},
        "sampler_name", "scheduler", options={"rng": "nv", "emphasis": "a1111", "prompt_syntax": "a1111"},
        rules=("noise: that of a CUDA GPU, computed here, one stream per picture",),
    ),
)  # fmt: skip


def read(found: Embedded) -> Recipe | None:
    """The recipe in a JSON object that one of the dialects knows."""
    inner = (json_object(text) for one in found.objects.values() if isinstance(text := one.get("extraMetadata"), str))
    for data in (*found.objects.values(), *(one for one in inner if one is not None)):
        for dialect in DIALECTS:
            if dialect.knows(data):
                recipe = dialect.read(data)
                _further(recipe, data)
                return recipe
    return None


def _further(recipe: Recipe, data: Mapping[str, Any]) -> None:
    """What is told in more than one name."""
    if recipe.program == "Fooocus":
        if isinstance(expanded := data.get("full_prompt"), list) and recipe.prompt not in map(str, expanded):
            recipe.lost.append("the prompts that styles and expansion made of this one")
        refiner = data.get("refiner_model")
        switch, steps = number_in(data.get("refiner_switch")), recipe.options.get("steps")
        if refiner not in (None, "None") and switch is not None and 0 < switch < 1 and steps:
            recipe.refiner, recipe.switch_step = base_name(refiner), max(1, round(switch * steps))
    if recipe.program == "Fooocus" and data.get("loras"):
        _loras(recipe, data["loras"])
    if recipe.program == "tensor.art" and isinstance(base := data.get("baseModel"), Mapping):
        recipe.model = base_name(base.get("modelFileName") or base.get("label"))
        recipe.model_hash = str(base["hash"]) if base.get("hash") else None
    if isinstance(enlarged := data.get("use_upscaler"), Mapping):
        recipe.lost.append(f"enlarged afterwards to {shown(enlarged.get('new_resolution'))}")
    if recipe.options.get("variation_strength") == 0 or recipe.options.get("variation_seed", 0) < 0:
        recipe.options.pop("variation_seed", None)


def _loras(recipe: Recipe, listed: object) -> None:
    """Names with weights, which older versions say as texts of their own too."""
    for one in listed if isinstance(listed, list) else [listed]:
        name, weight = (one[0], number_in(one[1])) if isinstance(one, list) and len(one) > 1 else (one, None)
        if weight is None or not isinstance(name, str):
            recipe.lost.append(f"LoRA {shown(one)}")
            continue
        recipe.add_lora(base_name(name), float(weight), float(weight))
        recipe.lost = [each for each in recipe.lost if not each.startswith("lora_combined_")]
