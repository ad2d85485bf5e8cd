"""The autoencoder and the text-and-image model learn from a folder of pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import sfumato
from sfumato.data.emoji.training import EmojiTrainingSet
from sfumato.data.pictures.readers.find import OwnPictures
from sfumato.errors import SfumatoError
from sfumato.loading.exports import load_clip, load_vae
from sfumato.nets.image_tower import ImageTowerConfig
from sfumato.spec import VAEConfig
from sfumato.train.methods import clip, vae
from sfumato.train.own_set import training_set
from sfumato.train.text_tower import TowerSize
from tuning import CPU, LOOP, run

VAE = vae.VAETraining(
    replace(LOOP, lr=1e-3, steps=2), VAEConfig(channels=(8, 16), blocks=1, groups=4), crop=16, held_out=4, side=32
)
CLIP = clip.CLIPTraining(
    replace(LOOP, steps=2, batch=4), TowerSize(520, 16, layers=1, heads=1, max_length=16),
    ImageTowerConfig(16, 8, (8, 16), (1, 1)), embedding=8, texts=8, corpus=20,
)  # fmt: skip


def test_ones_own_pictures_are_squares_with_classes(pictures: Path) -> None:
    found = training_set(OwnPictures(pictures), {"held_out": 1}, 0, 32)
    assert (len(found), found.size, found.subjects) == (4, 32, 2)
    assert len(found.splits["train"]) == 3 and len(found.splits["unseen_picture"]) == 1
    red = next(i for i in range(4) if found.prompt(found.subject(i), "picture", "en") == "a red heart")
    assert np.array_equal(found.picture(red)[0, 0], (255, 0, 0, 255)) and found.pictures([0, 1]).shape == (2, 32, 32, 4)


@pytest.mark.filterwarnings("ignore::sfumato.errors.SfumatoWarning")
def test_an_autoencoder_learns_from_a_folder(pictures: Path, released, tmp_path: Path) -> None:
    task = vae.make(VAE, OwnPictures(pictures), tmp_path, CPU)
    run(task, tmp_path)
    assert load_vae(tmp_path / "export").cfg.scale > 0
    model = released("sd1")
    task = vae.make(replace(VAE, decoder_of=model, side=32), OwnPictures(pictures), tmp_path / "on", CPU)
    before = sfumato.load(model, dtype="float32").vae
    batch = task.batch(0)
    optimizer = torch.optim.Adam([one for one in task.networks.parameters() if one.requires_grad], lr=1e-4)
    costs = []
    for _ in range(3):
        torch.manual_seed(0)
        cost, _ = task.loss(batch)
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
        costs.append(cost.item())
    assert costs[-1] < costs[0]
    task.export(tmp_path / "export-on")
    after = load_vae(tmp_path / "export-on")
    assert after.cfg.scale == before.cfg.scale
    assert all(
        torch.equal(value, after.state_dict()[name])
        for name, value in before.encoder.state_dict(prefix="encoder.").items()
    )
    assert not torch.equal(before.decoder.conv_out.weight, after.decoder.conv_out.weight)


def test_a_text_and_image_model_learns_from_a_folder(pictures: Path, tmp_path: Path) -> None:
    task = clip.make(CLIP, OwnPictures(pictures), tmp_path, CPU)
    run(task, tmp_path)
    encoders, _, _ = load_clip(tmp_path / "export")
    assert encoders.kinds["concept"] == 2


def test_what_does_not_fit_is_said(pictures: Path, emoji: EmojiTrainingSet, tmp_path: Path) -> None:
    with pytest.raises(SfumatoError, match="are not composed"):
        vae.make(replace(VAE, scenes_every=2), OwnPictures(pictures), tmp_path, CPU)
    with pytest.raises(SfumatoError, match="for your own pictures"):
        vae.make(replace(VAE, data={"flip": True}), emoji, tmp_path, CPU)
