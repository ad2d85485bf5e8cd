"""Settings as AUTOMATIC1111's web UI, its descendants and SD.Next write them, and as we do."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping

from sfumato.diffusion.options import FIELDS
from sfumato.errors import SfumatoError
from sfumato.provenance import infotext
from sfumato.provenance.recipe import Recipe, base_name, number_in, shown, size_in, whole_list
from sfumato.settings.control import Control
from sfumato.settings.kinds import Switch
from sfumato.settings.option import options_in
from sfumato.settings.picture import HiresSettings
from sfumato.settings.table import OPTIONS

OURS = "sfumato"
HIRES_UPSCALERS = ("latent", "lanczos")
_EMPHASIS = {word: value for value, word in OPTIONS["emphasis"].words.items()} | {"None": "none"}
# Options that are read below, for what other programs mean by their fields.
_APART = {"width", "height", "sampler", "schedule", "sigmas", "emphasis", "prompt_syntax", "hires_strength",
          "hires_upscaler", "switch_at", "rng"}  # fmt: skip
# Other spellings: those of ComfyUI's nodes that save pictures, of Fooocus, and of SD.Next.
_SPELLED = {
    "CFG Scale": "CFG scale", "Cfg scale": "CFG scale", "cfg scale": "CFG scale", "Guidance scale": "CFG scale",
    "Hires scale": "Hires upscale", "Hires strength": "Denoising strength", "Scheduler": "Schedule type",
    "Sampler sigma": "Schedule type",
}  # fmt: skip
# Names of things, or what follows from the rest; and what is read below.
_TOLD = {
    "Sampler", "Schedule type", "Sigmas", "Size", "Model", "Model hash", "VAE", "VAE hash", "Version", "RNG",
    "Emphasis", "Hashes", "Denoising strength", "Template", "Negative Template", "Wildcard prompt",
    "Wildcard negative prompt", "Batch size", "Batch pos", "User", "Module 1", "Module 2", "Module 3",
    "Beta schedule type", "Lora hashes", "TI hashes", "Prompt syntax", "Hires upscaler", "Best of", "CLIP score",
    "Aesthetic predictor", "Predicted score",
    "Refiner", "Refiner switch at", "First pass size", "Refiner switch by sampling steps", "App", "Pipeline",
    "Operations", "Created Date", "Civitai resources", "Civitai metadata", "Hires resize", "Hires size", "HiRes mode",
    "Refine", "Base model", "Parser", "Backend", "Downcast alphas_cumprod", "Styles", "Discard penultimate sigma",
    "Fooocus V2 Expansion", "Hypernet hash", "Hypernet hashes",
}  # fmt: skip
_HASHES = ("Lora hashes", "TI hashes", "Hypernet hashes")
# What the second pass may have of its own; equal to the first's it is none.
_AGAIN = {
    "Hires CFG Scale": "CFG scale", "Hires checkpoint": "Model",
}  # fmt: skip
_SAME = ("Use same checkpoint", "Use same sampler", "Use same scheduler", "Use same choices")
# The list that "Automatic" means, from version 1.9 on; before, a sampler's name ended in that of its list.
_AUTOMATIC = {
    "dpmpp_2m": "karras", "dpmpp_sde": "karras", "dpmpp_2m_sde": "exponential", "dpmpp_2m_sde_heun": "exponential",
    "dpmpp_2s_ancestral": "karras", "dpmpp_3m_sde": "exponential", "dpm_2": "karras", "dpm_2_ancestral": "karras",
    "restart": "karras", "euler": "discrete", "euler_ancestral": "discrete", "lms": "discrete", "heun": "discrete",
    "dpm_fast": "discrete", "dpm_adaptive": "discrete",
}  # fmt: skip
_TIMESTEPS = ("ddim", "plms", "unipc", "unipc_bh2")  # which count the steps on a picture otherwise
_EDITING_BY_SHARE = (1, 6)
_SCHEDULE_TYPE = (1, 9)
_REFINER_BY_TIMES = (1, 9)
_CONTROL = re.compile(r"ControlNet \d{1,2}")
_SNAKE = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)+")


def read(text: str) -> Recipe:
    """The recipe in an infotext; any text is a prompt at least."""
    prompt, negative, fields = infotext.parse(text.removeprefix("\ufeff"))
    return of_fields(prompt, negative, fields)


def of_fields(prompt: str, negative: str, fields: Mapping[str, str]) -> Recipe:
    """The recipe in prompts and the fields of an infotext."""
    told = {_SPELLED.get(name, name): value for name, value in fields.items() if name not in _SPELLED} | {
        _SPELLED[name]: value for name, value in fields.items() if name in _SPELLED and _SPELLED[name] not in fields
    }
    recipe = Recipe(_program(told), prompt, negative)
    read = _plain_options(recipe, told)
    if "Size" in told:
        recipe.size(told["Size"])
    recipe.model, recipe.model_hash = told.get("Model", told.get("Base model")), told.get("Model hash")
    recipe.hashes = {name: value for name, value in told.items() if name in _HASHES}
    if recipe.model is not None:
        recipe.model = base_name(recipe.model)
    _resources(recipe, told)
    _sampling(recipe, told)
    _words(recipe, told)
    _passes(recipe, told)
    _refiner(recipe, told)
    if told.get("Depth", "yes") != "yes":
        recipe.lost.append("the picture of depth that was given")
    known = {"Depth", *read, *_controls(recipe, told), *FIELDS.values(), *_TOLD, *_AGAIN, *filter(_is_module, told)}
    recipe.lost += [f"{name} ({shown(told[name])})" for name in told if name not in known]
    if not told:
        recipe.lost.append("all settings, which the text does not hold: the whole of it is taken for the prompt")
    if recipe.program == OURS and not recipe.lost:
        recipe.rules.append("all settings are this program's own")
    return recipe


def _plain_options(recipe: Recipe, told: Mapping[str, str]) -> set[str]:
    """Take the options whose fields say just what they are; returns the names of these fields."""
    plain = {one.infotext: one for one in OPTIONS.values() if one.infotext is not None and one.name not in _APART}
    for name, one in plain.items():
        if told.get(name) and told[name] not in _SAME and (isinstance(one.kind, Switch) or told[name] != "False"):
            recipe.take(one, told[name])
    return {*plain}


def _controls(recipe: Recipe, told: Mapping[str, str]) -> Iterator[str]:
    """Take the networks that steered the picture; gives the names of their fields."""
    for name in told:
        if _CONTROL.fullmatch(name):
            try:
                recipe.controls.append(Control.read(told[name]))
            except (SfumatoError, ValueError):
                continue  # it is lost, as all that nobody knows
            yield name


def _is_module(name: str) -> bool:
    return name.startswith(("Module ", "Hires Module "))


def _program(fields: Mapping[str, str]) -> str:
    version = fields.get("Version", "")
    low = version.lower()
    if version.startswith(OURS):
        return OURS
    if fields.get("App") == "SD.Next" or "Operations" in fields or "Backend" in fields:
        return "SD.Next"
    for mark, program in (
        ("stable-diffusion.cpp", "stable-diffusion.cpp"),
        ("fooocus", "Fooocus"), ("comfyui", "ComfyUI"), ("neo", "Forge Neo"), ("classic", "Forge Classic"),
    ):  # fmt: skip
        if low.startswith(mark):
            return program
    sampler = fields.get("Sampler", "")
    # Web UIs have other names for samplers, or those of k-diffusion; these are ComfyUI's.
    if _SNAKE.fullmatch(sampler) and not sampler.startswith("k_"):
        return "ComfyUI"
    if "Civitai resources" in fields or "Created Date" in fields:
        return "Civitai"
    return "Forge" if low.startswith("f") or "forge" in low else "AUTOMATIC1111"


def _version(fields: Mapping[str, str]) -> tuple[int, int]:
    """That of the web UI whose rules were followed. A file without one is old, unless it names what only newer have."""
    if match := re.search(r"v(\d{1,3})\.(\d{1,3})", fields.get("Version", "")):
        return int(match[1]), int(match[2])
    newest = _program(fields) not in ("AUTOMATIC1111", "Forge") or "Schedule type" in fields
    return (1, 10) if newest else (1, 0)


def _resources(recipe: Recipe, fields: Mapping[str, str]) -> None:
    """The checkpoint in the list that Civitai adds; what else it lists is lost."""
    try:
        listed = json.loads(fields.get("Civitai resources", "[]"))
    except (ValueError, RecursionError):
        listed = []
    for one in listed if isinstance(listed, list) else []:
        name = one.get("modelName") if isinstance(one, Mapping) else None
        if isinstance(name, str) and one.get("type") == "checkpoint":
            recipe.model = recipe.model or name
        elif isinstance(name, str):
            recipe.lost.append(f"{shown(one.get('type'))} {shown(name)}, weight {shown(one.get('weight', 1))}")


def _sampling(recipe: Recipe, fields: Mapping[str, str]) -> None:
    sampler, schedule = fields.get("Sampler"), fields.get("Schedule type")
    automatic = schedule is None or schedule.lower() in ("automatic", "default")
    if sampler is not None and sampler != "Default":
        recipe.sampler(sampler, None if automatic or "Sigmas" in fields else schedule)
    elif not automatic and schedule is not None:
        recipe.sampler("euler", schedule)
    for name in FIELDS.values():
        if name in fields:
            recipe.tune(name, fields[name])
    if sigmas := fields.get("Sigmas"):
        numbers = [number_in(sigma) for sigma in sigmas.split(",")[:1001]]
        recipe.options["sigmas"] = [float(sigma) for sigma in numbers if sigma is not None]
        recipe.options["steps"] = recipe.options["schedule"] = None
    if recipe.program == OURS:
        recipe.options["rng"] = fields.get("RNG", "CPU").lower()
        return
    _noise(recipe, fields)
    if recipe.program == "SD.Next":
        recipe.rules.append("sigma list: that of the scheduler in diffusers, as far as the file names it")
    elif automatic and "sampler" in recipe.options and "schedule" not in recipe.options:
        usual = _AUTOMATIC.get(recipe.options["sampler"])
        if usual is not None and _version(fields) < _SCHEDULE_TYPE and recipe.options["sampler"] != "restart":
            usual = "discrete"
        recipe.options["schedule"] = usual
        version = ".".join(map(str, _version(fields)))
        known = f"that of version {version}" if "Version" in fields else "that of versions before 1.9"
        recipe.rules.append(f"sigma list: {schedule or 'none named'}, {known}: {usual or 'that of the sampler'}")
    else:
        recipe.rules.append(f"sigma list: {recipe.options.get('schedule') or 'none named'}, as named")
    if recipe.options.get("variation_strength"):
        recipe.lost.append("the arc between seeds is taken over whole latents, there row by row")
    if "SDE" in (sampler or ""):
        recipe.lost.append("the Brownian path of this sampler is drawn otherwise, so details differ")


def _noise(recipe: Recipe, fields: Mapping[str, str]) -> None:
    """Where the first noise comes from."""
    source = fields.get("RNG", fields.get("Diffuser generator", "GPU")).upper()
    if recipe.program in ("ComfyUI", "Fooocus"):
        recipe.options["rng"] = "cpu"
        recipe.rules.append("noise: first noise drawn on the CPU")
        return
    if source.lower() == "std_default":
        recipe.lost.append("the first noise, which the C++ library of its machine drew")
    recipe.options["rng"] = "cpu" if source == "CPU" else "nv"
    where = "drawn on the CPU" if source == "CPU" else "that of a CUDA GPU, computed here"
    recipe.rules.append(f"noise: {where}, one stream per picture")


def _words(recipe: Recipe, fields: Mapping[str, str]) -> None:
    if recipe.program in ("ComfyUI", "Fooocus"):
        recipe.options |= {"emphasis": "comfy", "prompt_syntax": "comfyui"}
        if recipe.program == "Fooocus":
            recipe.options["emphasis"] = "a1111"
        recipe.rules.append(f"prompt: only ( ) weigh; emphasis: {recipe.options['emphasis']}")
        return
    named = fields.get("Emphasis", "Original")
    if named in _EMPHASIS:
        recipe.options["emphasis"] = _EMPHASIS[named]
    else:
        recipe.lost.append(f"emphasis {shown(named)!r}")
    old = recipe.program != OURS and _version(fields) < _EDITING_BY_SHARE
    recipe.options["prompt_syntax"] = fields.get("Prompt syntax", "a1111-1.5" if old else "a1111")
    if recipe.program != OURS:
        recipe.rules.append(f"emphasis: {'mean of the encoding restored' if named == 'Original' else named}")
    if "[" in recipe.prompt + recipe.negative and recipe.program != OURS:
        means = "below 1 is a share of the steps" if old else "with a decimal point is a share of the first pass"
        recipe.rules.append(f"prompt editing: a number {means}")


def _refiner(recipe: Recipe, fields: Mapping[str, str]) -> None:
    """The model that went on: "name [hash]", and after which share."""
    named, share = fields.get("Refiner"), number_in(fields.get("Refiner switch at"))
    if named is None:
        return
    recipe.refiner = base_name(re.sub(r"\s*\[[0-9a-fA-F]{6,64}\]\s*$", "", named))
    if share is None or not 0 < share < 1:
        recipe.refiner = None
        recipe.lost.append(f"the refiner {shown(named)}: the file does not say when it went on")
        return
    by_steps = _version(fields) < _REFINER_BY_TIMES or fields.get("Refiner switch by sampling steps") == "True"
    if recipe.program != OURS and by_steps:
        recipe.switch_step = math.ceil(share * (recipe.options.get("steps") or 0)) or None
    if recipe.switch_step is None:
        recipe.options["switch_at"] = float(share)


def _passes(recipe: Recipe, fields: Mapping[str, str]) -> None:
    """What a strength means: a second pass, or a picture that was drawn on."""
    share = number_in(fields.get("Denoising strength"))
    again = "Hires upscale" in fields or "Hires resize" in fields
    if recipe.program == "SD.Next" and again and "hires" not in fields.get("Operations", "hires").lower():
        recipe.options["hires_scale"] = None
        recipe.lost.append(f"{shown(fields.get('Hires upscaler', 'an upscaler'))} enlarged the finished picture")
        again = False
    if not again and "First pass size" not in fields:
        for name in options_in(HiresSettings):
            recipe.options.pop(name, None)
        if share is not None:
            _on_picture(recipe, float(share))
        return
    if "First pass size" in fields:
        _first_pass(recipe, fields["First pass size"])
    elif "Hires upscale" not in fields:
        _resized(recipe, fields["Hires resize"])
    steps = recipe.options.get("hires_steps") or recipe.options.get("steps") or 0
    if recipe.program == OURS:
        recipe.options["hires_strength"] = None if share is None else float(share)
    elif share is None:
        recipe.lost.append("the strength of the second pass, which the file does not say")
    elif recipe.program == "SD.Next":
        recipe.options["hires_strength"] = float(share)
    elif steps:
        # Theirs takes all of its steps; k-diffusion's count one more than those on time steps.
        sampler = recipe.options.get("hires_sampler") or recipe.options.get("sampler")
        taken = max(1, steps - (sampler in _TIMESTEPS))
        recipe.second_pass(taken, whole_list(steps, min(share, 0.999)))
    upscaler = fields.get("Hires upscaler", "Lanczos" if "First pass size" in fields else "Latent")
    _upscaler(recipe, upscaler)
    for name, first in _AGAIN.items():
        value, its = fields.get(name), fields.get(first, "")
        same = value in (None, its, *_SAME) or (number_in(its) is not None and number_in(value) == number_in(its))
        if not same:
            recipe.lost.append(f"{name} ({shown(value)})")


def _upscaler(recipe: Recipe, named: str) -> None:
    """Ours that is nearest to what enlarged a first pass."""
    name = named.lower()
    recipe.options["hires_upscaler"] = "latent" if name.startswith("latent") else "lanczos"
    if name not in HIRES_UPSCALERS:
        filtered = "bilinear" if name.startswith("latent") else "Lanczos'"
        recipe.lost.append(f"the upscaler of the second pass ({shown(named)}); {filtered} filter is taken")


def _on_picture(recipe: Recipe, share: float) -> None:
    """A picture on a picture. k-diffusion's samplers take one step more than the share there, the others do not."""
    steps = recipe.options.get("steps") or 0
    recipe.strength = share
    if steps and recipe.program in ("AUTOMATIC1111", "Forge", "Forge Classic", "Forge Neo", "Civitai"):
        more = 0 if recipe.options.get("sampler") in _TIMESTEPS else 1
        taken = min(steps, int(min(share, 0.999) * steps) + more)
        recipe.strength = taken / steps
        recipe.rules.append(f"strength: {taken} of {steps} steps{', one more than the share' if more else ''}")


def _first_pass(recipe: Recipe, text: str) -> None:
    """The web UI of 2022 said the size of the first pass, and as `Size` that of the second."""
    first, last = size_in(text), (recipe.options.get("width", 0), recipe.options.get("height", 0))
    if first is None or not all(last):
        recipe.lost.append(f"First pass size ({shown(text)})")
        return
    if not all(first):  # as large as 512x512, in multiples of 64
        scale = math.sqrt(512 * 512 / (last[0] * last[1]))
        first = math.ceil(scale * last[0] / 64) * 64, math.ceil(scale * last[1] / 64) * 64
        recipe.lost.append(f"the size of the first pass, which the program chose; {first[0]}x{first[1]} is taken")
    recipe.options["width"], recipe.options["height"] = first
    _enlarged_to(recipe, last)


def _resized(recipe: Recipe, text: str) -> None:
    """A second pass whose size is said rather than a factor; one side may be 0 and follow from the other."""
    last, first = size_in(text), (recipe.options.get("width", 0), recipe.options.get("height", 0))
    if last is None or not any(last) or not all(first):
        recipe.lost.append(f"Hires resize ({shown(text)})")
        return
    width, height = last
    _enlarged_to(recipe, (width or height * first[0] // first[1], height or width * first[1] // first[0]))


def _enlarged_to(recipe: Recipe, last: tuple[int, int]) -> None:
    first = recipe.options["width"], recipe.options["height"]
    recipe.options["hires_scale"] = max(last[0] / first[0], last[1] / first[1])
    if last[0] * first[1] != last[1] * first[0]:
        recipe.lost.append(f"the second pass was cut to {last[0]}x{last[1]}")
