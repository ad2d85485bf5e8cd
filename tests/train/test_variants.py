"""The trainers of variants and of the depth network: they learn, go on exactly, and leave what loads and draws."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import sfumato
from sfumato.cli.main import app
from sfumato.data.emoji.training import EmojiExamples
from sfumato.data.emoji.training import EmojiTrainingSet as EmojiData
from sfumato.errors import SfumatoError
from sfumato.pipeline.depth import depth_of
from sfumato.pipeline.latents import autoencoding
from sfumato.spec import DepthNetConfig, UNetConfig
from sfumato.train import checkpoint
from sfumato.train.config import LoopConfig
from sfumato.train.loop import train
from sfumato.train.masks import random_mask
from sfumato.train.methods.concat import ConcatTask, ConcatTraining
from sfumato.train.methods.depth_net import DepthNetTask, DepthNetTraining
from sfumato.train.methods.distil import DistilTask, DistilTraining
from sfumato.train.methods.ldm import LDMTraining
from sfumato.train.methods.ldm import make as make_ldm
from sfumato.train.task import Task

CPU = torch.device("cpu")
LOOP = LoopConfig(
    steps=4, batch=8, lr=1e-2, warmup=2, lr_schedule="constant", log_every=2, validate_every=9, sample_every=9, ema=0.5
)
HOLES = ConcatTraining(LOOP, "inpainting", rank=2, examples=28, views=2, held_out=4, whole=0.3, sheet_steps=1)
DEPTH = ConcatTraining(LOOP, "depth", rank=2, examples=28, held_out=4, sheet_steps=1)
FAST = DistilTraining(LOOP, rank=2, paths=28, held_out=4, teacher_steps=4, prompts=("red circle", "blue bar"))
NET = DepthNetTraining(replace(LOOP, lr=1e-2), DepthNetConfig((8, 8, 16), groups=4, side=32), examples=32, held_out=12)


@pytest.fixture(scope="module")
def make(emoji: EmojiData, model: str, tmp_path_factory: pytest.TempPathFactory):
    kept = tmp_path_factory.mktemp("kept")

    def make(recipe, adapter: Path | None = None, depth_net: Path | None = None) -> Task:
        if isinstance(recipe, DepthNetTraining):
            return DepthNetTask(recipe, emoji)
        recipe = replace(recipe, init=model)
        if isinstance(recipe, DistilTraining):
            return DistilTask(recipe, emoji, kept, CPU, adapter)
        return ConcatTask(recipe, emoji, kept, CPU, adapter, depth_net)

    return make


def run(task: Task, recipe, folder: Path, steps: int) -> dict[str, float]:
    return train(task, replace(recipe.loop, steps=steps), folder, record=recipe, device=CPU).metrics


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    path = checkpoint.find(folder)
    assert path is not None
    return checkpoint.load(path, CPU)["networks"]


@pytest.mark.parametrize("recipe", [HOLES, FAST, NET], ids=["concat", "distil", "depth-net"])
def test_an_interrupted_run_equals_a_whole_one_bit_for_bit(recipe, make, tmp_path: Path) -> None:
    run(make(recipe), recipe, tmp_path / "whole", 3)
    for steps in (1, 3):
        run(make(recipe), recipe, tmp_path / "cut", steps)
    whole, cut = weights_of(tmp_path / "whole"), weights_of(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


@pytest.mark.parametrize("recipe", [HOLES, FAST], ids=["concat", "distil"])
def test_forgetting_inner_values_changes_no_weight(recipe, make, tmp_path: Path) -> None:
    run(make(recipe), recipe, tmp_path / "kept", 1)
    forgetful = replace(recipe, loop=replace(recipe.loop, checkpointing=True))
    run(make(forgetful), forgetful, tmp_path / "forgotten", 1)
    kept, forgotten = weights_of(tmp_path / "kept"), weights_of(tmp_path / "forgotten")
    assert all(torch.equal(kept[name], forgotten[name]) for name in kept)


def test_a_model_with_holes_beside_its_latents(make, model: str, tmp_path: Path) -> None:
    task = make(HOLES)
    before = task.validate()
    assert run(task, HOLES, tmp_path, 12).items() and task.validate()["x0_10"] < before["x0_10"]
    made = sfumato.load(tmp_path / "export" / "inpainting.safetensors", device="cpu")
    assert made.spec.family == "sd1_inpainting"
    assert made.spec.unet.in_channels == 2 * made.spec.vae.latent_channels + 1
    assert made.txt2img("a cat", steps=1, width=16, height=16).images[0].size == (16, 16)


def test_a_model_that_is_told_depth_brings_its_depth_network(make, tmp_path: Path) -> None:
    run(make(NET), NET, tmp_path / "net", 1)
    run(make(DEPTH, depth_net=tmp_path / "net" / "export"), DEPTH, tmp_path / "depth", 1)
    made = sfumato.load(tmp_path / "depth" / "export" / "depth.safetensors", device="cpu")
    assert made.spec.family == "sd1_depth" and made.depth is not None
    picture = made.txt2img("a cat", steps=1, width=16, height=16).images[0]
    depth = depth_of(made.depth, picture, 8, 8)
    assert depth.shape == (1, 1, 8, 8) and (depth.min(), depth.max()) == (-1, 1)


@pytest.mark.slow
def test_few_steps_come_closer_to_where_paths_end(make, tmp_path: Path) -> None:
    task = make(FAST)
    before = task.validate()
    run(task, FAST, tmp_path, 20)
    after = task.validate()
    first = max(before, key=lambda name: float(name.removeprefix("x0_")))
    assert after[first] < 0.9 * before[first]
    made = sfumato.load(tmp_path / "export" / "fast.safetensors", device="cpu")
    habits = made.spec.defaults
    assert (habits.steps, habits.cfg, habits.sampler, habits.schedule) == (4, 1.0, "lcm", "trailing")


def test_depth_is_learnt(make, tmp_path: Path) -> None:
    task = make(NET)
    before = task.validate()["error"]
    run(task, NET, tmp_path, 30)
    assert task.validate()["error"] < 0.7 * before


def test_a_run_begins_with_the_differences_of_another(make, tmp_path: Path) -> None:
    run(make(HOLES), HOLES, tmp_path, 2)
    file = tmp_path / "export" / "inpainting.safetensors"
    again = make(HOLES, adapter=file)
    assert any(value.any() for name, value in again.variant.adapter.tensors().items() if name.endswith("up"))
    with pytest.raises(SfumatoError, match="no variant of this kind"):
        make(DEPTH, adapter=file)
    with pytest.raises(SfumatoError, match="no variant of this kind"):
        make(FAST, adapter=tmp_path / "nothing.safetensors")


def test_a_share_of_samples_is_painted_whole(make) -> None:
    batch = make(replace(HOLES, whole=1.0)).batch(0)
    assert (batch["further"][:, 0] == 1).all() and (batch["further"] == batch["further"][:1]).all()
    masks = make(replace(HOLES, whole=0.0)).batch(0)["further"][:, 0]
    assert not (masks == 1).flatten(1).all(1).all()


def test_captions_are_dropped(make) -> None:
    task = make(replace(HOLES, drop=1.0))
    assert (task.batch(0)["tokens"] == task.variant.conds([""], [0], 32)["tokens"]).all()


def test_a_model_with_a_prior_has_variants_too(emoji: EmojiData, with_prior: str, make, tmp_path: Path) -> None:
    run(make(NET), NET, tmp_path / "net", 1)
    net = tmp_path / "net" / "export"
    hole, deep, fast = (replace(recipe, init=with_prior) for recipe in (HOLES, DEPTH, FAST))
    tasks = {
        "inpainting": ConcatTask(hole, emoji, tmp_path / "a", CPU),
        "depth": ConcatTask(deep, emoji, tmp_path / "b", CPU, depth_net=net),
        "fast": DistilTask(fast, emoji, tmp_path / "c", CPU),
    }
    for name, task in tasks.items():
        run(task, task.cfg, tmp_path / name, 2)
        made = sfumato.load(tmp_path / name / "export" / f"{name}.safetensors", device="cpu")
        latents = made.spec.vae.latent_channels
        assert made.prior is not None and made.spec.beside_latents == {"inpainting": latents + 1, "depth": 1}.get(
            name, 0
        )
        assert made.txt2img("a cat", steps=1, width=32, height=32).images[0].size == (32, 32)
        base = task.variant.base
        with torch.no_grad():
            cond = base.prior(base.encode.words("a red circle"), Random(3), 4, 4, autoencoding(base.vae))
        assert torch.allclose(
            task.variant.cond(task.variant.conds(["a red circle"], [3], 32)).concat, cond.concat, atol=0.01
        )


@pytest.mark.slow
def test_another_denoiser_for_the_parts_of_a_model(emoji: EmojiData, with_prior: str, tmp_path: Path) -> None:
    net = UNetConfig(channels=(16, 32), blocks=1, depth=(0, 1), heads=2, groups=8)
    recipe = LDMTraining(LOOP, net, length=77, held_out=4, sheet_steps=2, prompts=("a red circle",))
    task = make_ldm(recipe, emoji, tmp_path, CPU, parts=with_prior)
    run(task, recipe, tmp_path, 2)
    file = tmp_path / "export" / "denoiser.safetensors"
    made = sfumato.load(file, device="cpu")
    assert made.spec.family == "sd1" and made.prior is None and made.spec.prediction == "v"
    assert made.txt2img("a cat", steps=1).images[0].size == (32, 32)
    whole = sum(path.stat().st_size for path in Path(with_prior).rglob("*.safetensors"))
    assert file.stat().st_size < whole / 2, "what it shares with the model stays there"


def test_levels_of_few_steps_are_asked_for(make) -> None:
    levels = torch.cat([make(replace(FAST, first_share=0.5)).batch(k)["levels"] for k in range(4)])
    assert (levels == 0).float().mean() == 0.5 and set(levels.tolist()) == {0, 1, 2, 3}


def test_masks_are_of_every_kind_and_never_empty() -> None:
    thing = torch.zeros(2, 32, 32, dtype=torch.bool)
    thing[0, 10:14, 8:20] = True
    masks = [random_mask(thing, Random(k)) for k in range(60)]
    assert all(mask.shape == (1, 1, 32, 32) and set(mask.unique().tolist()) <= {0.0, 1.0} for mask in masks)
    assert all(mask.any() for mask in masks)
    around = [mask for mask in masks if mask[0, 0][thing[0]].all() and mask.mean() < 0.2]
    assert around and max(mask.mean() for mask in masks) > 0.4


def test_examples_are_a_function_of_their_number(emoji: EmojiData) -> None:
    first, second = (EmojiExamples(emoji, 1, 0.5, deep=True)[7] for _ in range(2))
    assert torch.equal(first.picture, second.picture)
    assert first.caption(Random(1)) == second.caption(Random(1))
    singles = [EmojiExamples(emoji, 0, 1.0)[k] for k in range(4)]
    assert all(np.isin(one.depth.numpy(), (0, 1)).all() for one in singles)
    flat, deep = (EmojiExamples(emoji, 0, 0.0, deep=one) for one in (False, True))
    overlaps = [sum(len(row[k].depth.unique()) > 2 for k in range(40)) for row in (flat, deep)]
    assert overlaps[1] > 3 * overlaps[0]


def test_only_plain_models_in_folders_have_variants(make, upscaler: Path, emoji: EmojiData, tmp_path: Path) -> None:
    with pytest.raises(SfumatoError, match="give one"):
        ConcatTask(replace(DEPTH, init=str(upscaler)), emoji, tmp_path, CPU)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["distil", "nothing"], "cannot read nothing"),
        (["distil", "emoji-depth"], "unknown key"),
        (["concat", "emoji-inpainting", "--init", "no-such-model"], "no model"),
        (["concat", "emoji-depth", "--depth-net", "nowhere"], "depth-net"),
        (["inpaint", "emoji-depth"], "unknown key"),
        (["beside", "emoji-depth", "--depth-net", "nowhere"], "depth-net"),
        (["depth-net", "emoji-fast"], "unknown key"),
    ],
)
def test_a_command_that_cannot_begin_says_why(words: list[str], said: str, emoji: EmojiData, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["train", *words, "--data", str(emoji.path), "--out", str(tmp_path / "run")])
    assert done.exit_code == 2 and said in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_stopped_preparation_goes_on(
    emoji: EmojiData, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "fast.toml"
    loop = "[loop]\nsteps = 1\nbatch = 4\nlr = 1e-3\n"
    recipe.write_text(f'paths = 60\nheld_out = 4\nteacher_steps = 2\nprompts = ["bar"]\n{loop}')
    draw, drawn = DistilTask._draw, []

    def interrupted(task: DistilTask, seeds: range) -> dict[str, torch.Tensor]:
        drawn.append(seeds.start)
        if len(drawn) == 2:
            raise KeyboardInterrupt
        return draw(task, seeds)

    monkeypatch.setattr(DistilTask, "_draw", interrupted)
    run = tmp_path / "run"
    words = ["distil", str(recipe), "--data", str(emoji.path), "--out", str(run), "--init", model, "--device", "cpu"]
    done = CliRunner().invoke(app, ["train", *words])
    assert done.exit_code == 130 and done.stderr.endswith(f"\nstopped; the same command goes on with {run}\n")
    done = CliRunner().invoke(app, ["train", *words], catch_exceptions=False)
    assert done.exit_code == 0 and drawn == [0, 32, 32] and "draw paths 64/64" in done.stderr


def test_the_commands_train(emoji: EmojiData, model: str, tmp_path: Path) -> None:
    loop = "[loop]\nsteps = 1\nbatch = 4\nlr = 1e-3\n"
    recipes = {
        "depth-net": f"examples = 8\nheld_out = 12\n{loop}[net]\nchannels = [8, 8, 16]\ngroups = 4\nside = 32\n",
        "distil": f'paths = 28\nheld_out = 4\nteacher_steps = 2\nprompts = ["bar"]\n{loop}',
        "concat": f'condition = "depth"\nexamples = 28\nheld_out = 4\nsheet_steps = 1\n{loop}',
    }
    for name, recipe in recipes.items():
        (tmp_path / f"{name}.toml").write_text(recipe)
        options = [] if name == "depth-net" else ["--init", model]
        options += ["--depth-net", str(tmp_path / "depth-net" / "export")] if name == "concat" else []
        words = [name, str(tmp_path / f"{name}.toml"), "--data", str(emoji.path), "--out", str(tmp_path / name)]
        done = CliRunner().invoke(app, ["train", *words, *options, "--device", "cpu"], catch_exceptions=False)
        assert done.exit_code == 0, done.stderr
    assert sfumato.load(tmp_path / "concat" / "export" / "depth.safetensors", device="cpu").depth is not None
