"""Settings as Draw Things writes them: a JSON object in XMP or in EXIF's comment."""

from __future__ import annotations

from sfumato.provenance.embedded import Embedded
from sfumato.provenance.recipe import Numbers, Recipe, base_name, number_in

_NUMBERS: Numbers = {"steps": ("steps", int), "scale": ("cfg", float), "seed": ("seed", int)}
_TOLD = {*_NUMBERS, "c", "uc", "model", "sampler", "size", "strength", "seed_mode", "profile", "v2"}
_ENDINGS = {" AYS": "align_your_steps", " Trailing": "trailing", " Karras": "karras"}


def read(found: Embedded) -> Recipe | None:
    """The recipe in an object whose prompt is `c` and whose negative prompt is `uc`."""
    data = next((one for one in found.objects.values() if "c" in one and ("uc" in one or "sampler" in one)), None)
    if data is None:
        return None
    recipe = Recipe("Draw Things", str(data["c"] or "").strip(), str(data.get("uc") or "").strip())
    recipe.numbers(data, _NUMBERS)
    if data.get("size"):
        recipe.size(data["size"])
    if data.get("sampler"):
        name, schedule = str(data["sampler"]), None
        for ending, known in _ENDINGS.items():
            if name.endswith(ending):
                name, schedule = name.removesuffix(ending), known
        recipe.sampler(name, schedule)
    if data.get("model"):
        recipe.model = base_name(data["model"])
    if (share := number_in(data.get("strength"))) is not None and share < 1:
        recipe.strength = float(share)
    recipe.options |= {"emphasis": "a1111", "prompt_syntax": "a1111"}
    mode = str(data.get("seed_mode") or "")
    recipe.options["rng"] = "nv" if "Nvidia" in mode or "Scale" in mode else "cpu"
    recipe.rules.append("prompt: brackets weigh as in AUTOMATIC1111")
    if recipe.options["rng"] != "nv" or "Scale" in mode:
        recipe.lost.append(f"the first noise, which is its own{f' ({mode[:40]})' if mode else ''}")
    recipe.rest({name: value for name, value in data.items() if name != "v2"}, _TOLD)
    return recipe
