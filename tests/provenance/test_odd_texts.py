"""Settings whose text was changed on its way: joined, split, written twice, or in other programs' spelling."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foreign import DRAWN, FOOOCUS, SWARM, graph, infotext, png
from growth import MOST, scans
from sfumato.errors import SfumatoError
from sfumato.provenance.infotext import parse
from sfumato.provenance.read import read
from sfumato.provenance.recipe import Recipe

PLAIN = "Steps: 20, Sampler: Euler, CFG scale: 7.5, Seed: 7, Size: 512x768"
ALL = {"steps": 20, "seed": 7, "cfg": 7.5, "sampler": "euler", "width": 512, "height": 768}


def recipe_of(folder: Path, text: str) -> Recipe:
    return read(png(folder / "a.png", parameters=text))


@pytest.mark.parametrize(
    ("text", "prompt", "negative"),
    [
        (f"a house Negative prompt: blurry {PLAIN}", "a house", "blurry"),
        (f"a house  {PLAIN}", "a house", ""),
        (f"a house\nNegative prompt: blurry {PLAIN}", "a house", "blurry"),
        ("a house\nNegative prompt: blurry\n" + PLAIN.replace(", ", "\n"), "a house", "blurry"),
        ("a house\n" + PLAIN.replace(", ", ",\r\n"), "a house", ""),
        (f"a house\nNegative prompt: blurry\nNegative prompt: ugly\n{PLAIN}", "a house", "blurry\nugly"),
        (f"a house, Steps: 3 of stairs\nNegative prompt: blurry\n{PLAIN}", "a house, Steps: 3 of stairs", "blurry"),
        (f"\ufeffa house\n{PLAIN}", "a house", ""),
        (f'{{"red"}} house\n{PLAIN}', '{"red"} house', ""),
        (f"a house\n{PLAIN.replace('7.5', '7,5')}", "a house", ""),
        (f"a house\n{PLAIN.replace('512x768', '512X768')}", "a house", ""),
        (f"a house\n{PLAIN.replace('512x768', '512 x 768')}", "a house", ""),
    ],
)
def test_one_description_in_many_forms(tmp_path: Path, text: str, prompt: str, negative: str) -> None:
    recipe = recipe_of(tmp_path, text)
    assert (recipe.prompt, recipe.negative, recipe.lost) == (prompt, negative, [])
    assert ALL.items() <= recipe.options.items()


def test_fields_before_the_steps_stay_fields(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, f"a house\nClip skip: 2, {PLAIN}")
    assert (recipe.prompt, recipe.options["clip_skip"]) == ("a house", 2)


def test_of_two_descriptions_the_last_is_taken_with_a_word(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, f"{infotext()}\n\n{infotext('a tree', 'ugly', Seed=8)}")
    assert (recipe.prompt, recipe.negative, recipe.options["seed"]) == ("a tree", "ugly", 8)
    assert recipe.lost == ["Before the prompt (the settings of another picture)"]


@pytest.mark.parametrize(
    "make",
    [
        lambda n: "a" + " " * n + "b",
        lambda n: ("a" + " " * 50) * (n // 50) + "Steps: 1",
        lambda n: "Steps: 1, Sampler:" * (n // 18),
        lambda n: "Steps: 1\n" + "a: " + " " * n,
        lambda n: "a\n" + "Steps: 1, Sampler: a, Seed: 1\n" * (n // 30),
        lambda n: "Negative prompt: " * (n // 17) + f" {PLAIN}",
        lambda n: "Steps: " + "1," * n,
    ],
)
def test_the_time_grows_with_the_length_alone(make: Callable[[int], str]) -> None:
    assert scans(parse, make, 60_000) <= MOST


@pytest.mark.parametrize(
    "wrapped",
    [
        {"output": graph(), "workflow": {"nodes": []}},
        {"0b1c": {"prompt": [3, "0b1c", graph(), {}, ["9"]], "outputs": {}}},
        {"prompt": [3, "0b1c", graph(), {}, ["9"]]},
        json.dumps(graph()),
    ],
)
def test_a_graph_as_servers_and_editors_save_it(tmp_path: Path, wrapped: object) -> None:
    (tmp_path / "a.json").write_text(json.dumps(wrapped))
    recipe = read(tmp_path / "a.json")
    assert recipe.program == "ComfyUI" and recipe.options.items() >= DRAWN.items()


@pytest.mark.parametrize(
    ("texts", "loras"),
    [
        ({"parameters": SWARM | {"sui_image_params": SWARM["sui_image_params"] | {
            "loras": ["b/ink.safetensors", "oil"], "loraweights": ["0.5", "1"]}}}, ["ink:te=0.5:unet=0.5",
                                                                                    "oil:te=1:unet=1"]),
        ({"parameters": FOOOCUS | {"loras": [["ink.safetensors", 0.5, "hash"]], "lora_combined_1": "ink : 0.5"}},
         ["ink:te=0.5:unet=0.5"]),
    ],
)  # fmt: skip
def test_loras_of_other_programs(tmp_path: Path, texts: dict[str, Any], loras: list[str]) -> None:
    recipe = read(png(tmp_path / "a.png", **texts))
    assert recipe.loras == loras
    assert not any("ink" in line for line in recipe.lost)


def test_loras_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    recipe = read(png(tmp_path / "a.png", parameters=FOOOCUS | {"loras": ["ink", ["oil"], [1, 2]]}))
    assert {"LoRA ink", "LoRA ['oil']", "LoRA [1, 2]"} <= {*recipe.lost} and recipe.loras == []


def test_stable_diffusion_cpp_is_no_other_program(tmp_path: Path) -> None:
    line = f"{PLAIN.replace('Euler', 'euler_a')}, RNG: cuda, Version: stable-diffusion.cpp"
    recipe = recipe_of(tmp_path, f"a house\n{line}")
    assert recipe.program == "stable-diffusion.cpp" and recipe.options["sampler"] == "euler_ancestral"
    assert (recipe.options["rng"], recipe.options["prompt_syntax"]) == ("nv", "a1111")
    drawn = recipe_of(tmp_path, f"a house\n{line.replace('cuda', 'std_default')}")
    assert "the first noise, which the C++ library of its machine drew" in drawn.lost


def test_metadata_of_nothing_is_nobodys(tmp_path: Path) -> None:
    with pytest.raises(SfumatoError, match="form that is not known here: sd-metadata"):
        read(png(tmp_path / "a.png", **{"sd-metadata": "{}"}))
