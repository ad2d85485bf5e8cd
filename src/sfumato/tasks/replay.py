"""Draws a picture again from what its file says, whichever program drew it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from PIL import Image

from sfumato.checkpoint.hashes import kept_sha256
from sfumato.errors import SfumatoError
from sfumato.hub.local_adapters import find_adapter
from sfumato.hub.local_models import EMBEDDED, find, found
from sfumato.pipeline.adapter_text import found_again
from sfumato.pipeline.controls import ControlFile
from sfumato.pipeline.events import Events
from sfumato.pipeline.model import Model
from sfumato.pipeline.sampling import levels_of
from sfumato.provenance.recipe import Recipe
from sfumato.settings.adapters import read_lora
from sfumato.settings.control import Control
from sfumato.settings.settings import Options, Settings
from sfumato.tasks.img2img import img2img
from sfumato.tasks.txt2img import txt2img


def model_of(recipe: Recipe) -> str:
    """Returns the name or path of the model that drew a picture. Raises SfumatoError where this machine lacks it."""
    if recipe.model == EMBEDDED:
        return EMBEDDED
    if recipe.model_hash:
        for one in found():
            if one.path.is_file() and (kept_sha256(one.path) or "").startswith(recipe.model_hash.lower()):
                return str(one.path)
    if recipe.model:
        try:
            return str(find(recipe.model).path)
        except SfumatoError:
            pass
    named = recipe.model or "a model that the file does not name"
    known = f" [{recipe.model_hash[:64]}]" if recipe.model_hash else ""
    raise SfumatoError(f"the picture was drawn by {named}{known}, which is not on this machine; give one with --model")


def refiner_of(recipe: Recipe) -> str | None:
    """Returns the path of the refiner that finished a picture, or None if there was none or this machine lacks it."""
    try:
        return str(find(recipe.refiner).path) if recipe.refiner else None
    except SfumatoError:
        return None


def replay(
    model: Model,
    recipe: Recipe,
    image: Image.Image | None = None,
    *,
    refiner: Model | None = None,
    from_words: bool = False,
    hints: Sequence[Image.Image] = (),
) -> tuple[Settings, Events]:
    """Returns the settings of a recipe and the events of drawing it; what cannot be repeated is added to its losses.

    `image` is the RGB picture that it was drawn on, where it was; `from_words` says that it was not, whatever strength
    the file names. `refiner` goes on where the recipe says so. `hints` are the pictures of its controls. Raises
    SfumatoError at once where a picture is missing, and for settings that this model cannot honour.
    """
    options = recipe.to_options()
    unknown = [name for name in options if name not in Options.__annotations__]
    for name in unknown:
        recipe.lost.append(f"{name} ({options.pop(name)})")  # type: ignore[misc]
    if model.hash and recipe.model_hash and not model.hash.startswith(recipe.model_hash[: len(model.hash)].lower()):
        recipe.lost.append(f"the model: {recipe.model_hash} drew it, this is {model.hash}")
    strength = recipe.strength
    if from_words and strength is not None:
        recipe.rules.append(f"strength {strength:g} in the file means nothing, as it was drawn from words")
        strength = None
    refiner = _refiner(model, recipe, options, refiner, strength)
    if strength is None and recipe.levels is not None:
        options = _part_of_list(model, recipe, options)
    texts = recipe.prompt, recipe.negative
    recipe.prompt, recipe.negative, notes = found_again(*texts, recipe.hashes, model.adapters.knows)
    recipe.rules += notes
    options["lora"] = (*(options.get("lora") or ()), *_loras(recipe, model))
    spec = None if refiner is None else refiner.spec
    options["control"] = _controls(recipe, hints, on_picture=strength is not None)
    settings = Settings.of(model.spec, recipe.prompt, recipe.negative, refiner=spec, **options)
    if strength is None:
        if image is not None:
            recipe.lost.append("the picture that was given: the file does not say that it was drawn on top of one")
        return settings, txt2img(model, settings, refiner)
    if image is None:
        named = f" ({recipe.source})" if recipe.source else ""
        raise SfumatoError(
            f"it was drawn on top of another picture{named}, which its file does not hold; give that too (--picture), "
            "or say that it was drawn from words alone (--from-words)"
        )
    return settings, img2img(model, image, settings, strength)


def _loras(recipe: Recipe, model: Model) -> list[str]:
    """Returns the adapters of a recipe that are here; adds to its losses the others."""
    found = []
    for text in recipe.loras:
        name = read_lora(text).name
        try:
            if not model.adapters.knows(name):
                find_adapter(name, ("lora",))
        except SfumatoError:
            recipe.lost.append(f"the LoRA {name}, which is not in the model folders")
        else:
            found.append(text)
    return found


def _controls(recipe: Recipe, hints: Sequence[Image.Image], on_picture: bool) -> list[Control]:
    """Returns the controls of a recipe, with their pictures; adds to its losses those that cannot steer again."""
    result = []
    for number, control in enumerate(recipe.controls):
        lost = f"ControlNet {number} ({control.model})"
        own = replace(control, image=hints[number]) if number < len(hints) else control
        try:
            ControlFile.find(own)
        except SfumatoError as error:
            recipe.lost.append(f"{lost}: {error}")
            continue
        if own.image is None and not on_picture:
            recipe.lost.append(f"{lost}, whose picture the file does not hold; give it with --control-picture")
            continue
        result.append(own)
    if len(hints) > len(recipe.controls):
        recipe.lost.append(
            f"{len(hints) - len(recipe.controls)} of the pictures for controls, of which the file has less"
        )
    return result


def _refiner(
    model: Model,
    recipe: Recipe,
    options: Options,
    refiner: Model | None,
    strength: float | None,
) -> Model | None:
    """Returns the refiner if it can go on, and sets its share in the options; else adds it to the recipe's losses."""
    if recipe.refiner is None:
        if refiner is not None:
            recipe.lost.append("the refiner that was given: the file does not say that any went on")
        options.pop("switch_at", None)
        return None
    if refiner is None or strength is not None:
        where = f"from step {recipe.switch_step} on" if recipe.switch_step else f"from {options.get('switch_at')} on"
        recipe.lost.append(f"the refiner {recipe.refiner}, which drew {where}; give it with --refiner")
        options.pop("switch_at", None)
        return None
    if recipe.switch_step is not None:
        options["switch_at"] = _share_at(model, recipe, options, recipe.switch_step)
    return refiner


def _share_at(model: Model, recipe: Recipe, options: Options, step: int) -> float:
    """Returns the share of the training times, counted from noise, that lies just before a step of a list."""
    others = options.copy()
    others.pop("switch_at", None)
    settings = Settings.of(model.spec, recipe.prompt, recipe.negative, **others)
    table = model.table_for(settings.width, settings.height)
    sigmas = levels_of(settings, table)
    before, after = (table.time(sigmas[max(0, min(place, len(sigmas) - 2))]).item() for place in (step - 1, step))
    share = 1 - (before + after) / 2 / len(table.sigmas)
    return min(0.999, max(0.001, share))


def _part_of_list(model: Model, recipe: Recipe, options: Options) -> Options:
    """Returns the options with noise levels in place of steps, for a picture drawn between two places of their list."""
    assert recipe.levels is not None
    settings = Settings.of(model.spec, recipe.prompt, recipe.negative, **options)
    levels = levels_of(settings, model.table_for(settings.width, settings.height)).tolist()
    first, last = (max(0, min(place, len(levels) - 1)) for place in recipe.levels)
    if last - first < 1:
        raise SfumatoError(f"the file says that steps {first} to {last} of {len(levels) - 1} drew it, which are none")
    part = [*levels[first:last], 0.0]
    recipe.rules.append(f"sigma list: from place {first} to {last} of {len(levels) - 1}, over nothing but noise")
    kept = {name: value for name, value in options.items() if name not in ("steps", "schedule")}
    return Options(**kept, sigmas=part)  # type: ignore[typeddict-item]
