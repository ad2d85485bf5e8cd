"""Keys of recipes: explained from the dataclasses, and set by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from sfumato.errors import SfumatoError
from sfumato.train.config import LoopConfig
from sfumato.train.recipe_keys import assigned, explained, keys
from sfumato.train.registry import METHODS
from sfumato.train.run import Options, recipe_of
from sfumato.typed import build


@dataclass(frozen=True)
class Inner:
    """An inner table. `width` is in pixels: a whole number. Nothing else."""

    width: int = 3
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """A recipe. Its `inner` table may be missing."""

    loop: LoopConfig
    inner: Inner | None = None
    data: dict[str, Any] = field(default_factory=dict)


def test_a_key_is_explained_by_the_sentences_that_name_it() -> None:
    assert explained(Recipe, "inner.width") == "inner.width: int = 3\n\n`width` is in pixels: a whole number."
    assert "Micikevicius" in explained(Recipe, "loop.precision")
    assert explained(Recipe, "loop.lr").startswith("loop.lr: float, needed\n")
    assert "data: dict[str, Any] = {}" in explained(Recipe, "all")
    assert explained(Recipe, "inner") == "inner.width: int = 3\ninner.names: tuple[str, ...] = ()"
    with pytest.raises(SfumatoError, match=r"did you mean 'inner.width'\?"):
        explained(Recipe, "inner.widht")


@pytest.mark.parametrize("method", [m for m in METHODS if not m.former], ids=lambda m: m.name)
def test_every_key_of_every_method_is_explained(method) -> None:
    kind = method.load()[0]
    found = [name for name, _, _ in keys(kind)]
    assert "loop.steps" in found
    for key in found:
        head, _, text = explained(kind, key).partition("\n\n")
        assert head.startswith(f"{key}: ") and len(text) > 10


def test_assignments_take_the_place_of_what_a_recipe_says() -> None:
    table = {"loop": {"steps": 3, "batch": 2, "lr": 0.1}, "data": {"folder": "x"}}
    changes = ["loop.lr=1e-4", "inner.width = 5", 'data.tags.first="a"', "data.word=sks cat", 'inner.names=["a", "b"]']
    changed = assigned(table, Recipe, changes)
    recipe = build(Recipe, changed, "here")
    assert (recipe.loop.lr, recipe.inner, recipe.loop.steps) == (1e-4, Inner(5, ("a", "b")), 3)
    assert recipe.data == {"folder": "x", "tags": {"first": "a"}, "word": "sks cat"}
    assert table["loop"]["lr"] == 0.1


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("loop.lr", "no assignment"),
        ("=3", "no assignment"),
        ("loop.lrr=3", r"did you mean 'loop.lr'\?"),
        ("inner.width.deep=3", "unknown key of this recipe"),
        ("data.folder.deep=3", "folder is no table"),
    ],
)
def test_wrong_assignments_say_what_is_wrong(assignment: str, words: str) -> None:
    with pytest.raises(SfumatoError, match=words):
        assigned({"data": {"folder": "x"}}, Recipe, [assignment])


def test_types_are_checked_where_the_recipe_is_built() -> None:
    table = {"loop": {"steps": 3, "batch": 2, "lr": 0.1}}
    with pytest.raises(SfumatoError, match="here: loop: steps is 'many'; expected int"):
        build(Recipe, assigned(table, Recipe, ["loop.steps=many"]), "here")


def test_the_command_lists_explains_and_sets(run, refused) -> None:
    listed = run("train", "--list")
    assert listed.exit_code == 0 and "lora" in listed.stdout and "emoji-vae" in listed.stdout
    shown = run("train", "vae", "--explain", "loop.clip")
    assert shown.exit_code == 0 and shown.stdout.startswith("loop.clip: float = 1.0\n\nGradients longer")
    refused(run("train", "vae", "--explain", "loop.clippy"), "did you mean 'loop.clip'?")
    (vae,) = (method for method in METHODS if method.name == "vae")
    assert recipe_of(vae, "emoji-vae", Options(steps=7, assignments=("loop.batch=3",))).loop.batch == 3
