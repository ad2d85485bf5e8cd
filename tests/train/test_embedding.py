"""The trainer of a word for a new thing: its code is learnt from pictures, its file is used like any embedding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import sfumato
from sfumato.data.emoji.training import EmojiTrainingSet
from sfumato.errors import SfumatoError
from sfumato.nets.layout import Spot
from sfumato.settings.settings import Settings
from sfumato.train.codes import levels_of
from sfumato.train.config import LoopConfig
from sfumato.train.cutouts import load_cutouts, placed
from sfumato.train.loop import train
from sfumato.train.methods.embedding import EmbeddingTask, EmbeddingTraining, fitted

CPU = torch.device("cpu")
RECIPE = EmbeddingTraining(
    LoopConfig(steps=4, batch=4, lr=3e-2, warmup=1, lr_schedule="constant", validate_every=9, sample_every=9, ema=0.5),
    word="gizmo", like="star", style="flat", views=2, held_out=1, prompts=("two {}",), sheet_steps=1,
)  # fmt: skip


def picture(path: Path, turned: bool = False) -> None:
    """A ring with a bar: a thing that no emoji is."""
    y, x = np.mgrid[:96, :96] - 47.5
    y, x = (x, y) if turned else (y, x)
    inside = (abs(np.hypot(x, y) - 30) < 8) | ((abs(y) < 6) & (abs(x) < 40))
    pixels = np.zeros((96, 96, 4), np.uint8)
    pixels[..., :3], pixels[..., 3] = (180, 40, 160), 255 * inside
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gizmo")
    picture(folder / "3d-1.png")
    picture(folder / "3d-2.png")
    picture(folder / "other.png", turned=True)
    return folder


@pytest.fixture(scope="module")
def task(emoji: EmojiTrainingSet, pictures: Path) -> EmbeddingTask:
    return EmbeddingTask(RECIPE, emoji, pictures, CPU)


def test_things_are_cut_out_and_laid_down(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    plain = Image.new("RGB", (60, 40), (250, 250, 250))
    plain.paste((10, 20, 30), (20, 10, 50, 20))
    plain.save(tmp_path / "b.png")
    cut = load_cutouts(tmp_path)
    assert list(cut) == ["a", "b"] and cut["a"].size == (80, 76) and cut["b"].size == (30, 10)
    laid = (placed(cut["b"], Spot(0.25, 0.5, 0.5), (255, 0, 0), 32) + 1) * 127.5
    there = (laid[0] < 100).nonzero()
    assert there[:, 1].min() == 0 and there[:, 1].max() == 15 and 13 <= there[:, 0].min() <= there[:, 0].max() <= 18
    assert laid[:, 0, 31].tolist() == [255, 0, 0]
    with pytest.raises(SfumatoError, match="holds 0 pictures"):
        load_cutouts(tmp_path / "none")
    Image.new("RGB", (9, 9)).save(tmp_path / "c.png")
    with pytest.raises(SfumatoError, match="shows nothing on its ground"):
        load_cutouts(tmp_path)


def test_a_code_is_fitted_to_what_it_spells_out(task: EmbeddingTask) -> None:
    composer, cfg = task.prior.composer, task.prior.cfg
    torch.manual_seed(0)
    levels = torch.tensor(levels_of(cfg.detail))
    code = torch.cat([torch.randn(cfg.code), (torch.rand(len(levels)) * levels).floor() - levels // 2])
    latents = composer.alone(code[None])
    spelled = composer.alone(fitted(composer, latents)[None])
    assert (spelled - latents).square().mean() < 0.02 * latents.square().mean()


def test_a_run_learns_goes_on_exactly_and_leaves_a_word(
    task: EmbeddingTask, emoji: EmojiTrainingSet, pictures: Path, tmp_path: Path
) -> None:
    before = task.validate()["x0"]
    first = task.networks.codes.detach().clone()
    train(task, RECIPE.loop, tmp_path / "whole", record=RECIPE, device=CPU)
    assert task.networks.codes.shape[0] == 2 and not torch.equal(task.networks.codes, first)
    assert task.validate()["x0"] < before
    for steps in (2, 4):
        again = EmbeddingTask(RECIPE, emoji, pictures, CPU)
        train(again, replace(RECIPE.loop, steps=steps), tmp_path / "cut", record=RECIPE, device=CPU)
    files = [load_file(tmp_path / run / "export" / "gizmo.safetensors") for run in ("whole", "cut")]
    assert all(torch.equal(one, files[1][name]) for name, one in files[0].items())
    assert files[0]["thing_known"].tolist() == [1, 1, 0, 0, 0, 0]

    sd = sfumato.load()
    options = {"width": 64, "height": 64, "steps": 2, "seed": 1}
    plain = sd.txt2img("a gizmo, 3d render", **options).images[0]
    file = sd.adapters.add(tmp_path / "whole" / "export" / "gizmo.safetensors")
    assert (file.kind, file.name) == ("embedding", "gizmo") and file.path.stat().st_size < 1 << 20
    assert sd.txt2img("a gizmo, 3d render", **options).images[0].tobytes() != plain.tobytes()
    assert sd.prior is not None
    new = sd.encode.with_embeddings(sd.adapters.words(Settings.of(sd.spec, "a gizmo")))
    (thing,) = sd.prior.understand(new.words("a gizmo")).things
    assert thing.concept == len(sd.prior.memory.known)


def test_what_it_needs_is_said(emoji: EmojiTrainingSet, pictures: Path, model: str) -> None:
    with pytest.raises(SfumatoError, match="no style is known of the picture other; call it as one of 3d, flat"):
        EmbeddingTask(replace(RECIPE, style=""), emoji, pictures, CPU)
    with pytest.raises(SfumatoError, match="has no scene prior, whose memory learns"):
        EmbeddingTask(replace(RECIPE, init=model), emoji, pictures, CPU)
