"""The trainer of a LoRA: what it leaves is a file that draws as the trained network does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import sfumato
from sfumato.data.emoji.training import EmojiTrainingSet
from sfumato.diffusion.cond import Cond
from sfumato.settings.settings import Settings
from sfumato.train.config import LoopConfig
from sfumato.train.loop import train
from sfumato.train.methods.lora import LoraTask, LoraTraining
from sfumato.train.restyle import STYLES, restyled

CPU = torch.device("cpu")
RECIPE = LoraTraining(
    LoopConfig(steps=9, batch=8, lr=2e-2, warmup=1, ema=0.0, lr_schedule="constant", validate_every=9, sample_every=9),
    style="negative", name="film", rank=3, examples=28, held_out=4, prompts=("red circle",),
    sheet_steps=1,
)  # fmt: skip


@pytest.mark.parametrize("style", STYLES)
def test_styles_keep_sizes_and_range(style) -> None:
    x = torch.rand(2, 3, 40, 24) * 2 - 1
    y = restyled(x, style)
    assert y.shape == x.shape and y.min() >= -1 and y.max() <= 1 and not torch.allclose(x, y)
    if style == "negative":
        assert torch.allclose(restyled(y, style), x, atol=1e-6)


def test_a_run_leaves_a_lora_that_draws_as_the_trained_network(
    emoji: EmojiTrainingSet, model: str, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, init=model)
    task = LoraTask(recipe, emoji, tmp_path, CPU)
    before = task.validate()
    train(task, recipe.loop, tmp_path, record=recipe, device=CPU)
    after = task.validate()
    assert after["x0_10"] < before["x0_10"]

    path = tmp_path / "export" / "film.safetensors"
    names = load_file(path)
    assert all(name.startswith("unet.") and name.endswith((".lora_A.weight", ".lora_B.weight")) for name in names)
    sd = sfumato.load(model)
    x, t = torch.randn(1, 4, 8, 8), torch.tensor([300])
    cond = Cond(torch.randn(1, 7, sd.spec.unet.context_dim))
    plain = sd.denoiser.network(x, t, cond)
    file = sd.adapters.add(path)
    assert file.name == "film" and file.kind == "lora"
    with torch.no_grad():
        adapted = sd.for_request(Settings.of(sd.spec, "a circle")).denoiser.network(x, t, cond)
        trained = task.variant.model.denoiser.network(x, t, cond)
    assert not torch.allclose(plain, trained, atol=1e-3)
    torch.testing.assert_close(adapted, trained, atol=2e-3, rtol=2e-3)  # the file keeps float16


def test_an_interrupted_run_equals_a_whole_one(emoji: EmojiTrainingSet, model: str, tmp_path: Path) -> None:
    recipe = replace(RECIPE, init=model, examples=12, held_out=2)
    for name, parts in (("whole", (3,)), ("cut", (1, 3))):
        for steps in parts:
            task = LoraTask(recipe, emoji, tmp_path, CPU)
            train(task, replace(recipe.loop, steps=steps), tmp_path / name, record=recipe, device=CPU)
    whole, cut = (load_file(tmp_path / name / "export" / "film.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(one, cut[name]) for name, one in whole.items())
