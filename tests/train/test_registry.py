"""The registry against the methods it lists, the recipes that ship, the command line and the docs."""

from __future__ import annotations

import inspect
import pkgutil
from importlib import resources
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sfumato.cli.main import app
from sfumato.train import methods
from sfumato.train.config import read_config
from sfumato.train.registry import METHODS, Method, table

RECIPES = {
    "emoji-vae": "vae",
    "emoji-vae-decoder": "vae",
    "emoji-clip": "clip",
    "emoji-judge": "clip",
    "emoji-perceptor": "clip",
    "emoji-ldm": "ldm",
    "emoji-unet": "ldm",
    "emoji-scenes": "scenes",
    "emoji-reader": "reader",
    "emoji-ldm-short": "ldm",
    "emoji-ldm-scenes": "ldm",
    "emoji-depth-net": "depth-net",
    "emoji-inpainting": "concat",
    "emoji-depth": "concat",
    "emoji-fast": "distil",
    "emoji-control-edges": "controlnet",
    "emoji-embedding": "embedding",
    "emoji-lora-style": "lora",
    "lora": "lora",
    "full": "full",
    "hypernetwork": "hypernetwork",
    "dpo": "dpo",
    "controlnet": "controlnet",
    "inpaint": "inpaint",
    "depth": "depth",
    "lcm": "lcm",
    "t2i-adapter": "t2i-adapter",
    "dreambooth": "dreambooth",
    "textual-inversion": "textual-inversion",
}
SAID = {"dreambooth": ['prompt="a sks dog"'], "textual-inversion": ['word="my-dog"']}  # what only a user can know


def named(name: str) -> Method:
    return next(method for method in METHODS if method.name == name)


def test_every_file_of_methods_is_registered() -> None:
    files = {module.name for module in pkgutil.iter_modules(methods.__path__)}
    assert files == {method.file for method in METHODS}
    assert len({method.name for method in METHODS}) == len(METHODS)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_method_takes_the_inputs_that_its_command_has(method: Method) -> None:
    recipe, make = method.load()
    parameters = inspect.signature(make).parameters.values()
    own = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    given = {entry.name for entry in method.inputs}
    assert given == own and all(p.default is None for p in parameters if p.name in own)
    assert "loop" in inspect.signature(recipe).parameters and recipe.__doc__


def test_every_recipe_that_ships_is_read_without_a_word() -> None:
    shipped = {Path(file.name).stem for file in resources.files("sfumato.train").joinpath("configs").iterdir()}
    assert shipped >= RECIPES.keys()
    for name, command in RECIPES.items():
        method = named(command)
        read_config(name, method.load()[0], SAID.get(name, ()))


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_command_says_what_the_registry_says(method: Method) -> None:
    shown = " ".join(CliRunner().invoke(app, ["train", method.name, "--help"], env={"COLUMNS": "200"}).output.split())
    assert " ".join(method.help.split()) in shown
    for entry in method.inputs:
        assert f"--{entry.name.replace('_', '-')}" in shown and entry.help in shown
    listed = CliRunner().invoke(app, ["train", "--help"]).output
    assert (f" {method.name} " in listed) != method.former


def test_the_docs_hold_the_registrys_table() -> None:
    page = Path(__file__).parents[2] / "docs" / "training.md"
    assert table() in page.read_text(encoding="utf-8")
