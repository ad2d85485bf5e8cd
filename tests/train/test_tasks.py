"""The three trainers on the tiny set: they learn, they go on exactly, and what they export is what they trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import sfumato
from sfumato.data.emoji.noun_scenes import NounScenes
from sfumato.data.emoji.training import EmojiTrainingSet as EmojiData
from sfumato.data.emoji.training import OnBackgrounds
from sfumato.diffusion.cond import Cond
from sfumato.errors import SfumatoError
from sfumato.loading.exports import load_clip, load_vae
from sfumato.loading.load import load_parts
from sfumato.nets.image_tower import ImageTowerConfig
from sfumato.spec import CLIPTextConfig, MMDiTConfig, NoiseSchedule, UNetConfig, VAEConfig
from sfumato.text.tokenizer import CLIPTokenizer
from sfumato.train import checkpoint
from sfumato.train.config import LoopConfig
from sfumato.train.ema import EMA
from sfumato.train.latents import cached
from sfumato.train.loop import train
from sfumato.train.methods.clip import CLIPTask, CLIPTraining
from sfumato.train.methods.ldm import LDMTask, LDMTraining
from sfumato.train.methods.vae import VAETask, VAETraining
from sfumato.train.networks import text_transformer
from sfumato.train.objective import Objective
from sfumato.train.start import gather
from sfumato.train.task import Task
from sfumato.train.text_tower import TowerSize

CPU = torch.device("cpu")
LOOP = LoopConfig(steps=8, batch=8, lr=4e-3, warmup=5, log_every=4, validate_every=100, sample_every=100, ema=0.9)
VAE_RECIPE = VAETraining(
    LOOP,
    VAEConfig(latent_channels=8, channels=(8, 16, 16), blocks=1, groups=1),
    crop=16,
    held_out=6,
)
CLIP_RECIPE = CLIPTraining(
    replace(LOOP, batch=32),
    TowerSize(vocab_size=600, width=32, layers=2, heads=2, max_length=32),
    ImageTowerConfig(size=32, stem=8, channels=(16, 32), blocks=(1, 1)),
    embedding=32,
    texts=16,
    corpus=500,
)
LDM_RECIPE = LDMTraining(
    LOOP,
    UNetConfig(channels=(16, 32), blocks=1, depth=(0, 1), heads=2, groups=8),
    length=16,
    data={"backgrounds": 2},
    held_out=4,
    sheet_steps=3,
    prompts=("big red circle", "small blue bar"),
    sheet_endings=("3d render", "flat icon"),
)
SCENES_RECIPE = replace(LDM_RECIPE, data={"backgrounds": 2, "scenes": 12, "scene_share": 0.5}, train_text=True)
TRANSFORMER_RECIPE = replace(
    LDM_RECIPE,
    net=None,
    transformer=MMDiTConfig(patch=2, hidden=32, heads=2, depth=2, qk_norm=True),
    prediction="flow",
    noise=NoiseSchedule(shift=2.0),
    objective=Objective(times="logit_normal"),
    sampler="euler",
    schedule="discrete",
)


def run(task: Task, recipe, folder: Path, steps: int) -> dict[str, float]:
    loop = replace(recipe.loop, steps=steps, lr_schedule="constant")
    return train(task, loop, folder, record=recipe, device=CPU).metrics


@pytest.fixture(scope="module")
def vae_folder(emoji: EmojiData, tmp_path_factory) -> Path:
    run(VAETask(VAE_RECIPE, emoji), VAE_RECIPE, folder := tmp_path_factory.mktemp("vae"), 20)
    return folder / "export"


@pytest.fixture(scope="module")
def clip_folder(emoji: EmojiData, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    run(CLIPTask(CLIP_RECIPE, emoji, folder), CLIP_RECIPE, folder, 10)
    return folder / "export"


@pytest.fixture
def make_ldm(emoji: EmojiData, vae_folder: Path, clip_folder: Path, tmp_path_factory):
    latents = tmp_path_factory.mktemp("latents")

    def make(recipe: LDMTraining = LDM_RECIPE) -> LDMTask:
        return LDMTask(recipe, emoji, gather(recipe.init, vae_folder, clip_folder), latents, CPU)

    return make


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    path = checkpoint.find(folder)
    assert path is not None
    return checkpoint.load(path, CPU)["networks"]


@pytest.mark.parametrize("kind", ["vae", "clip", "ldm", "scenes"])
def test_an_interrupted_run_equals_a_whole_one_bit_for_bit(kind: str, emoji: EmojiData, make_ldm, tmp_path: Path):
    make = {
        "vae": lambda: VAETask(VAE_RECIPE, emoji),
        "clip": lambda: CLIPTask(CLIP_RECIPE, emoji, tmp_path),
        "ldm": make_ldm,
        "scenes": lambda: make_ldm(SCENES_RECIPE),
    }[kind]
    recipe = {"vae": VAE_RECIPE, "clip": CLIP_RECIPE, "ldm": LDM_RECIPE, "scenes": SCENES_RECIPE}[kind]
    run(make(), recipe, tmp_path / "whole", 7)
    for steps in (3, 7):
        run(make(), recipe, tmp_path / "cut", steps)
    whole, cut = weights_of(tmp_path / "whole"), weights_of(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_a_text_run_that_goes_on_keeps_its_tokenizer(emoji: EmojiData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = CLIPTask(CLIP_RECIPE, emoji, tmp_path).tokenizer
    monkeypatch.setattr(CLIPTokenizer, "train", None)
    again = CLIPTask(CLIP_RECIPE, emoji, tmp_path).tokenizer
    assert again.files() == first.files() and again.max_length == CLIP_RECIPE.text.max_length


def test_the_autoencoder_learns_and_its_export_is_its_average(emoji: EmojiData, tmp_path: Path):
    task = VAETask(VAE_RECIPE, emoji)
    metrics = run(task, VAE_RECIPE, tmp_path, 150)
    assert metrics["val/psnr"] > 12
    net = load_vae(tmp_path / "export")
    assert net.cfg.scale == pytest.approx(metrics["val/scale"])
    path = checkpoint.find(tmp_path)
    assert path is not None
    average = checkpoint.load(path, CPU)["ema"]
    assert all(torch.equal(value, average[name]) for name, value in net.state_dict().items())


def test_an_autoencoder_without_quant_convolutions_learns(emoji: EmojiData, tmp_path: Path):
    recipe = replace(VAE_RECIPE, net=replace(VAE_RECIPE.net, quant_convs=False))
    first = run(VAETask(recipe, emoji), recipe, tmp_path / "first", 1)
    recipe = replace(recipe, decoder_of=str(tmp_path / "first/export"))
    task = VAETask(recipe, emoji)
    encoder = {name: value.clone() for name, value in task.networks.encoder.state_dict().items()}
    assert run(task, recipe, tmp_path / "second", 6)["val/psnr"] > first["val/psnr"]
    assert all(torch.equal(value, encoder[name]) for name, value in task.networks.encoder.state_dict().items())


def test_whole_pictures_come_as_often_as_the_recipe_says(emoji: EmojiData):
    task = VAETask(replace(VAE_RECIPE, full_every=3), emoji)
    shapes = [tuple(task.batch(step)["rgba"].shape) for step in range(4)]
    assert shapes == [(2, 32, 32, 4), (8, 16, 16, 4), (8, 16, 16, 4), (2, 32, 32, 4)]


def test_the_encoders_learn_and_load_again(emoji: EmojiData, tmp_path: Path):
    task = CLIPTask(CLIP_RECIPE, emoji, tmp_path)
    first = {name: value.clone() for name, value in task.networks.named_parameters()}
    metrics = run(task, CLIP_RECIPE, tmp_path, 100)
    assert metrics["val/named_en"] > 5 * 100 / emoji.subjects
    assert all(not torch.equal(value, first[name]) for name, value in task.networks.named_parameters())
    encoders, tokenizer, held_out = load_clip(tmp_path / "export")
    texts = ["big red circle, 3d render", "маленький"]
    torch.testing.assert_close(
        encoders.embed_text(tokenizer.batch(texts)),
        encoders.embed_text(tokenizer(texts)),
        msg="padding must not change the vectors",
    )
    assert len(held_out) == len(task.labelled.held_out) > len(emoji.splits["unseen_picture"])
    assert not set(task.labelled.held_out) & set(task.labelled.numbers)


def test_the_last_steps_are_of_texts_alone_and_leave_the_pictures(emoji: EmojiData, tmp_path: Path):
    recipe = replace(CLIP_RECIPE, texts_last=3, loop=replace(CLIP_RECIPE.loop, steps=5))
    task = CLIPTask(recipe, emoji, tmp_path)
    assert "rgba" in task.batch(1) and "rgba" not in task.batch(2)
    assert len(task.batch(2)["ids"]) == 4 * len(task.batch(1)["ids"])
    run(task, recipe, tmp_path, 2)
    before = weights_of(tmp_path)
    run(task, recipe, tmp_path, 5)
    changed = {name for name, value in weights_of(tmp_path).items() if not torch.equal(value, before[name])}
    assert changed and all(name.startswith("text") for name in changed)


def test_times_cover_every_band_of_a_batch(make_ldm):
    task = make_ldm()
    times = task.table.time(task.batch(5)["sigma"]).round().long()
    assert sorted((times * 8 // 1000).tolist()) == list(range(8))


@pytest.mark.parametrize(
    "recipe",
    [
        *(replace(LDM_RECIPE, prediction=kind) for kind in ("eps", "x0", "flow")),
        TRANSFORMER_RECIPE,
    ],
    ids=["eps", "x0", "flow", "transformer"],
)
def test_every_kind_of_denoiser_learns_and_its_export_draws_the_same(recipe: LDMTraining, make_ldm, tmp_path: Path):
    task = make_ldm(recipe)
    before = task.validate()["x0_seen"]
    metrics = run(task, recipe, tmp_path, 12)
    assert metrics["val/x0_seen"] < 0.95 * before
    prompt = "big red circle, 3d render"
    average = EMA(task.networks, 0.5)
    average.load(checkpoint.load(checkpoint.find(tmp_path), CPU)["ema"])
    with average.applied(), torch.no_grad():
        ours = task.draw([prompt], [3])[0].clamp(-1, 1)
    (loaded,) = sfumato.load(tmp_path / "export").txt2img(prompt, seed=3, watermark=False).images
    theirs = torch.from_numpy(np.array(loaded)).movedim(-1, 0) / 127.5 - 1
    assert (ours - theirs).abs().max() < 0.05  # weights were rounded to float16


def test_a_text_transformer_predicts_nothing_and_knows_places():
    net = text_transformer(
        TRANSFORMER_RECIPE.transformer, VAEConfig(latent_channels=8), CLIPTextConfig(hidden_size=32), 8
    )
    x, text = torch.randn(2, 8, 8, 8), torch.randn(2, 5, 32)
    assert not net(x, torch.tensor([1.0, 500.0]), Cond(text, text[:, 0])).any()
    places = net.pos_embed.pos_embed[0]
    assert places.shape == (16, 32) and len(places.unique(dim=0)) == 16


def test_cached_latents_are_read_again_and_never_stale(emoji: EmojiData, vae_folder: Path, tmp_path: Path):
    net, pictures = load_vae(vae_folder), OnBackgrounds(emoji, 2)
    first = cached(tmp_path, pictures, net)
    assert len(first) == 3 * len(emoji) and torch.equal(first, cached(tmp_path, pictures, net))
    assert len(list(tmp_path.iterdir())) == 1
    with torch.no_grad():
        net.quant_conv.bias += 1e-3
    cached(tmp_path, pictures, net)
    cached(tmp_path, OnBackgrounds(emoji, 1), net)
    assert len(list(tmp_path.iterdir())) == 3


def test_the_denoiser_learns_and_leaves_a_model_that_opens(make_ldm, tmp_path: Path):
    task = make_ldm()
    before = task.validate()["x0_seen"]
    metrics = run(task, LDM_RECIPE, tmp_path, 60)
    assert metrics["val/x0_seen"] < 0.8 * before
    parts = load_parts(tmp_path / "export")
    assert (parts.spec.prediction, parts.spec.text.max_length, parts.spec.defaults.width) == ("v", 16, 32)
    path = checkpoint.find(tmp_path)
    assert path is not None
    average = checkpoint.load(path, CPU)["ema"]
    for name, value in parts.unet.state_dict().items():
        torch.testing.assert_close(value, average[name], atol=1e-3, rtol=1e-3)


def test_scenes_share_the_batch_with_single_pictures(make_ldm, emoji: EmojiData):
    task = make_ldm(SCENES_RECIPE)
    batch, scenes = task.batch(2), NounScenes(emoji)
    with torch.no_grad():
        x = torch.stack([scenes.draw(scenes[k]).picture for k in range(12)])
        own = task.vae.to_latents(task.vae.encode(x).chunk(2, 1)[0])
    nearest = torch.cdist(batch["x0"].flatten(1), own.flatten(1)).amin(1)
    assert (nearest[:4] > 1).all() and (nearest[4:] < 0.5).all()
    assert make_ldm().batch(2)["x0"].shape == batch["x0"].shape


@pytest.mark.slow
def test_the_text_tower_learns_from_scenes_and_its_average_is_what_is_left(make_ldm, tmp_path: Path):
    task = make_ldm(SCENES_RECIPE)
    before = task.validate()["x0_scenes"]
    first = {name: value.clone() for name, value in task.text.state_dict().items()}
    metrics = run(task, SCENES_RECIPE, tmp_path, 40)
    assert metrics["val/x0_scenes"] < 0.9 * before
    assert any(not torch.equal(value, first[name]) for name, value in task.text.state_dict().items())
    average = checkpoint.load(checkpoint.find(tmp_path), CPU)["ema"]
    for name, value in load_parts(tmp_path / "export").text.state_dict().items():
        torch.testing.assert_close(value, average[f"text.{name}"], atol=1e-3, rtol=1e-3)


@pytest.mark.slow
def test_training_goes_on_from_a_folder(make_ldm, emoji: EmojiData, tmp_path: Path):
    run(make_ldm(), LDM_RECIPE, tmp_path / "first", 10)
    folder = tmp_path / "first/export"
    recipe = replace(LDM_RECIPE, init=str(folder))
    task = LDMTask(recipe, emoji, gather(recipe.init, None, None), tmp_path, CPU)
    for ours, theirs in ((task.network, "unet"), (task.vae, "vae"), (task.text, "text")):
        stored = load_parts(folder).networks[theirs].state_dict()
        assert all(torch.equal(value, stored[name]) for name, value in ours.state_dict().items())
    (latents,) = tmp_path.glob("pictures-*")  # of the folder's own encoder
    before = task.validate()["x0_seen"]
    run(task, recipe, tmp_path / "second", 4)
    again = LDMTask(recipe, emoji, gather(recipe.init, None, None), tmp_path, CPU)
    metrics = run(again, recipe, tmp_path / "second", 10)
    assert metrics["val/x0_seen"] < before
    path = checkpoint.find(tmp_path / "second")
    assert path is not None
    assert checkpoint.load(path, CPU)["config"]["init"] == str(folder)
    assert list(tmp_path.glob("pictures-*")) == [latents]


def test_what_cannot_be_gone_on_from_is_said(make_ldm, vae_folder: Path, tmp_path: Path):
    with pytest.raises(SfumatoError, match="--init"):
        gather("", vae_folder, None)
    make_ldm().export(tmp_path)
    net = replace(LDM_RECIPE.net, channels=(16, 24))
    with pytest.raises(SfumatoError, match=r"other sizes than the recipe: channels is \(16, 32\) and not \(16, 24\)"):
        make_ldm(replace(LDM_RECIPE, init=str(tmp_path), net=net))


def test_captions_are_dropped_as_often_as_the_recipe_says(make_ldm):
    task = make_ldm(replace(LDM_RECIPE, drop=1.0))
    empty = task.tokenizer([""])[0]
    assert (task.batch(0)["ids"] == empty).all()


def test_styles_can_be_left_out(make_ldm, emoji: EmojiData):
    task = make_ldm(replace(LDM_RECIPE, data={"styles": {"3d": 2, "blob": 0}}))
    styles = [emoji.style(int(i)) for i in task.pictures.epoch]
    assert "blob" not in styles and styles.count("3d") > 1.9 * styles.count("flat")


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"data": {"styles": {"cubist": 1}}}, "cubist"),
        ({"data": {"languages": {"xx": 1.0}}}, "xx"),
        ({"data": {"colours": 3}}, "colours"),
        ({"length": 99}, "length"),
        ({"prediction": "edm"}, "edm"),
        ({"data": {"scenes": 5, "scene_share": 1.5}}, "scene_share"),
        ({"net": None}, r"\[transformer\]"),
        ({"transformer": TRANSFORMER_RECIPE.transformer}, r"\[net\]"),
        ({"net": None, "transformer": MMDiTConfig(hidden=30, heads=4)}, "heads"),
        ({"net": None, "transformer": MMDiTConfig(hidden=32, heads=2, patch=3)}, "patch"),
    ],
)
def test_recipes_that_cannot_work_are_refused(make_ldm, change: dict, names: str):
    with pytest.raises(SfumatoError, match=names):
        make_ldm(replace(LDM_RECIPE, **change))


def test_export_folders_without_weights_are_refused(tmp_path: Path):
    for read in (load_vae, load_clip):
        with pytest.raises(SfumatoError, match="export folder"):
            read(tmp_path)
