"""A text tower that says what pictures look like, and what is exported with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import sfumato
from sfumato.data.emoji.training import EmojiTrainingSet
from sfumato.errors import SfumatoError
from sfumato.pipeline.load import load
from sfumato.spec import UNetConfig
from sfumato.train.config import LoopConfig
from sfumato.train.loop import train
from sfumato.train.methods.ldm import LDMTraining, make
from sfumato.train.picture_text import PictureText, picture_tower, principal

CPU = torch.device("cpu")
SIZES = PictureText(width=16, layers=1, heads=2, steps=60, batch=16, lr=1e-2)
LOOP = LoopConfig(steps=1, batch=4, lr=1e-3, warmup=1, log_every=1, validate_every=9, sample_every=9, ema=0.0)


def test_states_say_pictures(emoji: EmojiTrainingSet, with_prior: str, tmp_path: Path) -> None:
    base = load(with_prior, CPU, "float32")
    pictures = emoji.captioned({"backgrounds": 0}, 0, 2)
    torch.manual_seed(0)
    groups = torch.tensor([emoji.groups.index(emoji.group(i)) for i in range(len(emoji))])
    latents = torch.randn(len(emoji.groups), 2, 4, 4)[groups]  # pictures of a style are alike, and most texts say it

    def tower(cfg: PictureText) -> torch.nn.Module:
        words, tokenizer = base.encode.towers[0], base.encode.tokenizer
        return picture_tower(cfg, words, tokenizer, pictures, latents, 0, tmp_path)

    learnt = tower(SIZES)
    numbers, texts = pictures.batch(0, 256)
    ids = base.encode.tokenizer(texts)

    def error(net: torch.nn.Module) -> float:
        """What a linear map of the states at the end leaves of the pictures' variance."""
        states = net(ids).pooled
        said = torch.cat([states, torch.ones(len(states), 1)], 1)
        shown = latents[torch.from_numpy(numbers)].flatten(1)
        return (shown - said @ torch.linalg.lstsq(said, shown).solution).square().sum().item()

    assert error(learnt) < 0.9 * error(tower(replace(SIZES, steps=1)))
    again = tower(SIZES).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in learnt.state_dict().items())


def test_a_denoiser_brings_the_tower_that_it_learnt_with(
    emoji: EmojiTrainingSet, with_prior: str, tmp_path: Path
) -> None:
    net = UNetConfig(channels=(16,), blocks=1, depth=(1,), heads=2, groups=8)
    text = replace(SIZES, steps=2)
    recipe = LDMTraining(LOOP, net, length=12, held_out=2, sheet_steps=1, prompts=("a",), train_text=True, text=text)
    train(make(recipe, emoji, tmp_path, CPU, parts=with_prior), LOOP, tmp_path, record=recipe, device=CPU)
    made = sfumato.load(tmp_path / "export" / "denoiser.safetensors", device="cpu")
    assert made.spec.text == replace(made.spec.text, hidden_size=16, layers=1, max_length=12)
    assert made.encode.tokenizer.max_length == 12
    assert made.txt2img("a cat", steps=1).images[0].size == (32, 32)


def test_some_things_alone_are_learnt(emoji: EmojiTrainingSet) -> None:
    subgroup = emoji.concept(0).subgroup
    some = emoji.captioned({"backgrounds": 0, "only": [subgroup], "styles": {"flat": 0}}, 0, 2)
    every = emoji.captioned({"backgrounds": 0}, 0, 2)
    assert 0 < len(some.parts[0]) < len(every.parts[0]) and some.parts[0].fingerprint != every.parts[0].fingerprint
    numbers, _ = some.batch(0, 8)
    assert numbers.max() < len(some.parts[0]) and some.parts[0].draw(numbers).shape[0] == 8
    with pytest.raises(SfumatoError, match="no picture is left"):
        emoji.captioned({"only": ["unheard of"]}, 0, 2)


def test_components_are_in_order() -> None:
    torch.manual_seed(0)
    rows = torch.randn(50, 1) @ torch.tensor([[3.0, 0.0, 4.0]]) + 0.01 * torch.randn(50, 3)
    found = principal(rows, 2)
    assert found[:, 0].std() == pytest.approx(rows.norm(dim=1).std().item(), rel=1) and found[:, 1].std() < 0.02


def test_a_width_that_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(SfumatoError, match="multiple of its heads"):
        PictureText(width=10, heads=4)
