"""The trainer of ControlNets: it learns, goes on exactly, and leaves a file that steers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

import sfumato
from sfumato.data.emoji.training import EmojiTrainingSet
from sfumato.nets.mmdit import MMDiT
from sfumato.spec import MMDiTConfig
from sfumato.train import checkpoint
from sfumato.train.config import LoopConfig, read_config
from sfumato.train.loop import train
from sfumato.train.methods.controlnet import ControlNetTask, ControlNetTraining
from sfumato.train.steering import FILE, fresh
from sfumato.train.warp import warped

CPU = torch.device("cpu")
LOOP = LoopConfig(
    steps=4,
    batch=8,
    lr=5e-3,
    warmup=2,
    lr_schedule="constant",
    log_every=2,
    validate_every=99,
    sample_every=99,
    ema=0.5,
)
EDGES = ControlNetTraining(
    loop=LOOP, hint="gradient", hidden=96, blocks=2, positions=True, sheet_steps=1,
    data={"examples": 12, "held_out": 4, "single": 0.3, "captions": 2},
)  # fmt: skip


def run(task: ControlNetTask, folder: Path, steps: int) -> None:
    train(task, replace(task.cfg.loop, steps=steps), folder, record=task.cfg, device=CPU)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    path = checkpoint.find(folder)
    assert path is not None
    return checkpoint.load(path, CPU)["networks"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place for what is kept."""
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path / "home"))


def test_it_learns_goes_on_exactly_and_steers(emoji: EmojiTrainingSet, model: str, tmp_path: Path) -> None:
    recipe = replace(EDGES, model=model)

    def task() -> ControlNetTask:
        return ControlNetTask(recipe, emoji, tmp_path / "kept", CPU)

    first = task()
    assert first.validate()["gain"] == pytest.approx(0, abs=1e-6), "at first it adds nothing"
    run(first, tmp_path / "whole", 6)
    assert first.validate()["gain"] > 0.003
    for steps in (2, 6):
        run(task(), tmp_path / "cut", steps)
    whole, cut = weights_of(tmp_path / "whole"), weights_of(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)

    file = tmp_path / "whole" / "export" / FILE
    with safe_open(file, "pt") as opened:
        assert opened.metadata()["sfumato.hint"] == "gradient"
    sd = sfumato.load(model)
    options = {"steps": 2, "seed": 3, "width": 32, "height": 32, "watermark": False}
    hints = (Image.new("RGB", (32, 32)), Image.new("RGB", (32, 32), "white"))
    drawn = [np.asarray(sd.txt2img("a cat", control=[sfumato.Control(file, one)], **options)[0]) for one in hints]
    assert not np.array_equal(*drawn)
    assert first.samples().width > 32


def test_the_recipe_that_ships_fits_a_mebibyte() -> None:
    recipe = read_config("emoji-control-edges", ControlNetTraining)
    sizes = {"hidden": 192, "heads": 4, "depth": 1, "pooled_dim": 256, "positions": 32}
    base = MMDiT(MMDiTConfig(in_channels=32, out_channels=16, **sizes))
    network = fresh(base, recipe, 16)
    assert 2 * sum(value.numel() for value in network.state_dict().values()) < 1 << 20


def test_a_draft_is_warped_in_the_way_of_its_number_and_keeps_its_colours() -> None:
    picture = torch.full((3, 64, 64), 1.0)
    picture[:, 20:44, 20:44] = -1
    first, again, other = warped(picture, 1), warped(picture, 1), warped(picture, 2)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert not torch.equal(first, picture) and first.unique().min() >= -1 and first.unique().max() <= 1
    assert (first[:, 0, 0] == 1).all() and (first < -0.5).any()
