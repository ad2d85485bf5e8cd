"""Styles that a formula makes, and the recipe of the LoRA that ships."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sfumato.data.emoji.training import EmojiTrainingSet
from sfumato.train.config import LoopConfig, read_config
from sfumato.train.loop import train
from sfumato.train.methods.lora import LoraTask, LoraTraining
from sfumato.train.restyle import STYLES, restyled

CPU = torch.device("cpu")


@pytest.mark.parametrize("style", STYLES)
def test_styles_keep_sizes_and_range(style) -> None:
    x = torch.rand(2, 3, 40, 24) * 2 - 1
    y = restyled(x, style)
    assert y.shape == x.shape and y.min() >= -1 and y.max() <= 1 and not torch.allclose(x, y)
    if style == "negative":
        assert torch.allclose(restyled(y, style), x, atol=1e-6)


def test_the_recipe_that_ships_learns_a_style_of_examples(
    emoji: EmojiTrainingSet, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path / "home"))
    recipe = read_config("emoji-lora-style", LoraTraining)
    loop = LoopConfig(
        steps=9, batch=8, lr=2e-2, warmup=1, ema=0.0, lr_schedule="constant", validate_every=9, sample_every=9
    )
    data = {"examples": 28, "held_out": 4, "captions": 1, "caption_dropout": 0.1}
    recipe = replace(recipe, model=model, loop=loop, data=data, prompts=("red circle",), sheet_steps=1)
    task = LoraTask(recipe, emoji, tmp_path, CPU)
    own, plain = task.pictures.pixels(task.pictures.validation()[0]), replace(recipe, style=None)
    assert not torch.allclose(own, LoraTask(plain, emoji, tmp_path, CPU).pictures.pixels(task.pictures.validation()[0]))
    before = task.validate()
    train(task, recipe.loop, tmp_path, record=recipe, device=CPU)
    assert task.validate()["x0_10"] < before["x0_10"]
    names = load_file(tmp_path / "export" / "sepia.safetensors")
    assert all(name.startswith("unet.") and name.endswith((".lora_A.weight", ".lora_B.weight")) for name in names)


def test_a_recipe_of_an_earlier_version_is_read() -> None:
    with pytest.warns(Warning, match="examples"):
        from sfumato.typed import build

        table = {"loop": {"steps": 1, "batch": 1, "lr": 1.0}, "examples": 3, "init": "emoji", "style": "sepia"}
        found = build(LoraTraining, table, "recipe")
    assert found.data == {"examples": 3} and found.model == "emoji"
