"""Nodes of ComfyUI's workflows that choose, add to a model, or make words while a workflow runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from foreign import DRAWN, graph, node, png
from sfumato.provenance.read import read
from sfumato.provenance.recipe import Recipe


def lost(recipe: Recipe, words: str) -> None:
    assert any(words in line for line in recipe.lost), (words, recipe.lost)


@pytest.mark.parametrize(
    ("inputs", "loras"),
    [
        ({"lora_name": "ink.safetensors", "strength_model": 0.8, "strength_clip": 0.5}, ["ink:te=0.5:unet=0.8"]),
        ({"lora_1": {"on": True, "lora": "ink.pt", "strength": 0.5},
          "lora_2": {"on": False, "lora": "z", "strength": 1}, "lora_3": {"on": True, "lora": "None"}},
         ["ink:te=0.5:unet=0.5"]),
        ({"lora_name_1": "None", "lora_name_2": "b/ink", "lora_wt_2": 0.3}, ["ink:te=0.3:unet=0.3"]),
        ({"lora_name_1": "ink", "model_weight_1": 0.4, "clip_weight_1": 1, "switch_1": "On", "lora_name_2": "off",
          "switch_2": "Off"}, ["ink:te=1:unet=0.4"]),
        ({"lora_name": "ink", "strength_model": 0, "strength_clip": 0}, []),
    ],
)  # fmt: skip
def test_loras_of_all_kinds_of_nodes(tmp_path: Path, inputs: dict[str, Any], loras: list[str]) -> None:
    loader = {"41": node("Any Loader", model=["4", 0], clip=["4", 1], **inputs)}
    assert read(png(tmp_path / "a.png", prompt=graph(loader, model=["41", 0]))).loras == loras
    stack = {"41": node("Apply", model=["4", 0], lora_stack=["42", 0]), "42": node("Any Stack", **inputs)}
    assert read(png(tmp_path / "b.png", prompt=graph(stack, model=["41", 0]))).loras == loras


def test_a_lora_for_the_network_alone_and_perturbed_attention(tmp_path: Path) -> None:
    further = {
        "41": node("LoraLoaderModelOnly", lora_name="ink", strength_model=0.8, model=["4", 0]),
        "42": node("PerturbedAttentionGuidance", scale=2.5, model=["41", 0]),
    }
    recipe = read(png(tmp_path / "a.png", prompt=graph(further, model=["42", 0])))
    assert (DRAWN | {"pag": 2.5}).items() <= recipe.options.items()
    assert (recipe.loras, recipe.lost) == (["ink:te=0:unet=0.8"], [])


@pytest.mark.parametrize(
    ("nodes", "prompt"),
    [
        ({"60": node("ImpactSwitch", select=2, input1=["7", 0], input2=["6", 0])}, "a house"),
        ({"60": node("ComfySwitchNode", switch=False, on_true=["7", 0], on_false=["6", 0])}, "a house"),
        ({"60": node("AnySwitch", index=1, value0=["7", 0], value1=["6", 0])}, "a house"),
        ({"60": node("ImpactWildcardEncode", wildcard_text="a {red|blue}", populated_text="a red", clip=["4", 1])},
         "a red"),
        ({"60": node("CLIPTextEncode", text=["61", 0], clip=["4", 1]),
          "61": node("ShowText|pysssss", text=["62", 0], text_0="a red"), "62": node("Asks", prompt="say a colour")},
         "a red"),
    ],
)  # fmt: skip
def test_switches_and_texts_made_while_it_ran(tmp_path: Path, nodes: dict[str, Any], prompt: str) -> None:
    recipe = read(png(tmp_path / "a.png", prompt=graph(nodes, positive=["60", 0])))
    assert (recipe.prompt, recipe.negative) == (prompt, "blurry")


def test_switches_that_lead_in_a_circle_end(tmp_path: Path) -> None:
    circle = {key: node("ImpactSwitch", select=1, input1=[other, 0]) for key, other in (("60", "61"), ("61", "60"))}
    recipe = read(png(tmp_path / "a.png", prompt=graph(circle, positive=["60", 0])))
    lost(recipe, "the prompt, whose words are not in the file")


@pytest.mark.parametrize("text", [5, None, ["a", "b"], {"a": 1}])
def test_words_that_are_none_are_said(tmp_path: Path, text: object) -> None:
    recipe = read(png(tmp_path / "a.png", prompt=graph({"6": node("CLIPTextEncode", text=text, clip=["4", 1])})))
    lost(recipe, "the words of CLIPTextEncode, which are no text in the file")
    lost(read(png(tmp_path / "b.png", prompt=graph(without=("7",)))), "the negative, whose words are not in the file")
    lost(read(png(tmp_path / "c.png", prompt=graph(steps=10**30))), "steps 'a number of many digits' is no number")
