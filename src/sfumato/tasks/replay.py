"""A picture drawn again from what its file says, whichever program drew it."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from PIL import Image

from sfumato.checkpoint.hashes import kept_sha256
from sfumato.errors import SfumatoError
from sfumato.hub.local_models import EMBEDDED, find, found
from sfumato.pipeline.latents import Picture, Progress
from sfumato.provenance.recipe import Recipe
from sfumato.settings.settings import Options, Settings
from sfumato.tasks.img2img import img2img
from sfumato.tasks.txt2img import txt2img

if TYPE_CHECKING:
    from sfumato.api import StableDiffusion


def model_of(recipe: Recipe) -> str:
    """The name or path of the model that drew it. Raises SfumatoError where this machine does not have it."""
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
    known = f" [{recipe.model_hash}]" if recipe.model_hash else ""
    raise SfumatoError(f"the picture was drawn by {named}{known}, which is not on this machine; give one with --model")


def replay(
    model: StableDiffusion, recipe: Recipe, image: Image.Image | None = None
) -> tuple[Settings, Generator[Progress | Picture, None, None]]:
    """The settings of a recipe, and the events of drawing it; what turns out impossible is added to its losses.

    `image` is the RGB picture that it was drawn on, where it was. Raises SfumatoError at once where that is missing,
    and for settings that this model cannot honour.
    """
    options = recipe.to_options()
    unknown = [name for name in options if name not in Options.__annotations__]
    for name in unknown:
        recipe.lost.append(f"{name} ({options.pop(name)})")  # type: ignore[misc]
    if model.hash and recipe.model_hash and not model.hash.startswith(recipe.model_hash[: len(model.hash)].lower()):
        recipe.lost.append(f"the model: {recipe.model_hash} drew it, this is {model.hash}")
    settings = Settings.of(model.spec, recipe.prompt, recipe.negative, **options)
    if recipe.strength is None:
        if image is not None:
            recipe.lost.append("the picture that was given: the file does not say that it was drawn on top of one")
        return settings, txt2img(model, settings)
    if image is None:
        named = f" ({recipe.source})" if recipe.source else ""
        raise SfumatoError(
            f"it was drawn on top of another picture{named}, which its file does not hold; give that too (--picture)"
        )
    return settings, img2img(model, image, settings, recipe.strength)
