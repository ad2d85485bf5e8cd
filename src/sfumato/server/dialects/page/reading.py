"""Shows how a prompt is read while it is typed, and which settings a picture's file holds."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from sfumato.errors import SfumatoError
from sfumato.hub.local_models import EMBEDDED, found
from sfumato.provenance.read import read
from sfumato.provenance.recipe import Recipe
from sfumato.server.dialects.base import QueueOf
from sfumato.server.dialects.own import SentPicture, decoded
from sfumato.server.jobs.job import JobRequest
from sfumato.settings.table import OPTIONS
from sfumato.tasks.replay import model_of

router = APIRouter()
MAX_PROMPT = 20_000  # characters


class Words(BaseModel):
    """A prompt, and the settings that decide how it is read."""

    model_config = ConfigDict(extra="forbid")
    model: str = EMBEDDED
    prompt: str = Field("", max_length=MAX_PROMPT)
    options: dict[str, Any] = Field(default_factory=dict, description="As a job has them, such as steps and seed.")


@router.post("/tokens")
async def read_prompt(words: Words, queue: QueueOf) -> dict[str, Any]:
    """Show how a model reads a prompt: tokens, weights, changes over the steps, and notes with their places."""
    await queue.checked(JobRequest(model=words.model, prompt=words.prompt, options=words.options))
    return await queue.ask("tokens", {"prompt": words.prompt, "options": words.options}, words.model)


class RecipeView(BaseModel):
    """What a picture's file says. `kind` to `options` ask for it again, `rules` are habits of the program that are
    followed, `lost` is what cannot be honoured. `seed` is among the options and here as text.
    """

    program: str
    kind: str
    model: str | None
    prompt: str
    negative: str
    options: dict[str, Any]
    seed: str | None
    strength: float | None
    rules: list[str]
    lost: list[str]


@router.post("/replay")
async def read_picture(sent: SentPicture, queue: QueueOf) -> RecipeView:
    """Read the settings in a picture's file, whichever program drew it. Nothing is drawn."""
    return await queue.in_background(_recipe, decoded(sent.picture, "picture"))


def _recipe(content: bytes) -> RecipeView:
    recipe = _read(content)
    options: dict[str, Any] = dict(recipe.to_options())
    for name in [name for name in options if name not in OPTIONS]:
        recipe.lost.append(f"{name} ({options.pop(name)})")
    if recipe.loras:
        options["lora"] = [*options.get("lora", ()), *recipe.loras]
    try:
        model = _name(model_of(recipe))
    except SfumatoError as error:
        model = None
        recipe.lost.append(str(error).partition("; give")[0])
    if recipe.controls:
        recipe.lost.append(f"{len(recipe.controls)} ControlNets, whose pictures the file does not hold")
    seed = options.get("seed")
    return RecipeView(
        program=recipe.program, kind="txt2img" if recipe.strength is None else "img2img", model=model,
        prompt=recipe.prompt, negative=recipe.negative, options=options, seed=None if seed is None else str(seed),
        strength=recipe.strength, rules=recipe.rules, lost=recipe.lost,
    )  # fmt: skip


def _name(path: str) -> str:
    """Returns the name of a model; clients see no paths."""
    return next((one.name for one in found() if str(one.path) == path), path if path == EMBEDDED else "")


def _read(content: bytes) -> Recipe:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture"
        path.write_bytes(content)
        try:
            return read(path)
        except SfumatoError as error:
            raise SfumatoError(str(error).replace(str(path), "the picture")) from None
