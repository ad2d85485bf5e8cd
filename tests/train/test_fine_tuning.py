"""Fine-tuning of models of every family on a folder of pictures: its file draws as it did in training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

import sfumato
from sfumato.adapters.file import AdapterFile
from sfumato.data.pictures.readers.find import OwnPictures
from sfumato.errors import SfumatoError
from sfumato.settings.settings import Settings
from sfumato.train.learnt import LoraOptions, WholeOptions
from sfumato.train.methods.controlnet import ControlNetTask, ControlNetTraining
from sfumato.train.methods.dpo import DpoTask, DpoTraining
from sfumato.train.methods.dreambooth import DreamboothTask, DreamboothTraining
from sfumato.train.methods.full import FullTask, FullTraining
from sfumato.train.methods.hypernetwork import HypernetworkTask, HypernetworkTraining
from sfumato.train.methods.lora import LoraTask, LoraTraining
from sfumato.train.methods.textual_inversion import InversionTask, InversionTraining
from tuning import CPU, LOOP, SIDE, drawn, run

pytestmark = pytest.mark.usefixtures("home")
LORA = LoraTraining(loop=LOOP, rank=2, precision="float32", data={"resolution": SIDE}, sheet_steps=1, name="film")
RELEASES = ("sd1", "sd2", "sdxl", "sd3_medium", "sd35_medium")


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.filterwarnings("ignore::sfumato.errors.SfumatoWarning")
def test_a_lora_learns_and_its_file_draws_as_in_training(
    release: str, released, pictures: Path, tmp_path: Path
) -> None:
    model = released(release)
    recipe = replace(LORA, model=model, text=True)
    task = LoraTask(recipe, OwnPictures(pictures), tmp_path, CPU)
    before, weights = task.validate(), {name: value.clone() for name, value in task.base.vae.state_dict().items()}
    plain = {name: value.clone() for name, value in task.base.denoiser.network.state_dict().items()}
    run(task, tmp_path)
    assert task.validate()["x0"] < before["x0"]
    assert all(torch.equal(value, task.base.denoiser.network.state_dict()[name]) for name, value in plain.items())
    assert all(torch.equal(value, task.base.vae.state_dict()[name]) for name, value in weights.items())
    assert {"text"} < set(task.networks)

    path = tmp_path / "export" / "film.safetensors"
    sd = sfumato.load(model, dtype="float32")
    sd.adapters.add(path)
    settings = Settings.of(sd.spec, "a red heart")
    view = sd.for_request(settings).for_picture(settings)
    samples = task.pictures.validation()[:1]
    with torch.no_grad():
        told = view.encode([samples[0].caption])[0]
        own = task.model.encode([samples[0].caption])[0]
        torch.testing.assert_close(told.tokens, own.tokens, atol=1e-4, rtol=1e-4)
        cond, x, t = task._conditions(samples), task.latents(samples), torch.tensor([300.0])
        trained = task.model.denoiser.network(x, t, cond)
        found = view.denoiser.network(x, t, cond)
        was = task.base.denoiser.network(x, t, cond)
    assert (found - trained).abs().max() < 1e-4 * trained.abs().max()
    assert (trained - was).abs().max() > 1e-3 * was.abs().max()
    said = AdapterFile.open(path).metadata
    assert (
        said["ss_output_name"] == "film" and said["ss_num_train_images"] == "4" and "heart" in said["ss_tag_frequency"]
    )
    assert said["modelspec.architecture"].endswith("/lora") and said["ss_network_dim"] == "2"
    assert task.samples().width >= SIDE


def test_an_interrupted_lora_equals_a_whole_one(released, pictures: Path, tmp_path: Path) -> None:
    recipe = replace(LORA, model=released("sd1"))
    for name, parts in (("whole", (3,)), ("cut", (1, 3))):
        for steps in parts:
            task = LoraTask(replace(recipe, loop=replace(LOOP, steps=steps)), OwnPictures(pictures), tmp_path, CPU)
            run(task, tmp_path / name)
    whole, cut = ((tmp_path / name / "export" / "film.safetensors") for name in ("whole", "cut"))
    with safe_open(whole, "pt") as a, safe_open(cut, "pt") as b:
        assert all(torch.equal(a.get_tensor(name), b.get_tensor(name)) for name in a.keys())  # noqa: SIM118


@pytest.mark.parametrize("release", ["sd1", "sd3_medium"])
@pytest.mark.filterwarnings("ignore::sfumato.errors.SfumatoWarning")
def test_a_whole_model_is_written_as_a_folder_that_draws_as_it(
    release: str, released, pictures: Path, tmp_path: Path
) -> None:
    cfg = FullTraining(
        loop=replace(LOOP, lr=1e-3), model=released(release), data={"resolution": SIDE}, precision="float32", text=True,
        sheet_steps=1,
    )  # fmt: skip
    task = FullTask(cfg, OwnPictures(pictures), tmp_path, CPU)
    before = task.validate()["x0"]
    run(task, tmp_path)
    assert task.validate()["x0"] < before
    found = sfumato.load(tmp_path / "export", dtype="float32")
    for part, network in task.networks.items():
        theirs = found.networks[part].state_dict()
        assert all(torch.equal(value, theirs[name]) for name, value in network.state_dict().items())
    assert drawn(found).std() > 0


@pytest.mark.parametrize("lora", [None, LoraOptions(rank=2)], ids=["whole", "LoRA"])
def test_dreambooth_draws_its_class_once_and_learns_on_both(lora, released, pictures: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for k in range(2):
        Image.new("RGB", (SIDE, SIDE), "red").save(bare / f"{k}.png")
    cfg = DreamboothTraining(
        loop=LOOP, model=released("sd1"), data={"resolution": SIDE}, prompt="a sks heart", class_prompt="a heart",
        class_pictures=3, class_steps=1, sheet_steps=1, prior_weight=0.5, lora=lora,
    )  # fmt: skip
    task = DreamboothTask(cfg, OwnPictures(bare), tmp_path, CPU)
    drawn_at = {path: path.stat().st_mtime_ns for path in (tmp_path / "class").glob("*.png")}
    assert len(drawn_at) == 3
    (tmp_path / "class" / "00001.png").unlink()
    task = DreamboothTask(cfg, OwnPictures(bare), tmp_path, CPU)
    again = {path: path.stat().st_mtime_ns for path in (tmp_path / "class").glob("*.png")}
    assert {path for path in again if again[path] != drawn_at[path]} == {tmp_path / "class" / "00001.png"}
    captions = {(s.caption, s.weight, s.regularisation) for step in range(6) for s in task.pictures.batch(step, 2)}
    assert captions == {("a sks heart", 1.0, False), ("a heart", 0.5, True)}
    run(task, tmp_path)
    assert list((tmp_path / "export").iterdir())


def test_what_cannot_be_trained_is_said(released, pictures: Path, tmp_path: Path, upscaler: Path) -> None:
    with pytest.raises(SfumatoError, match="works from a picture"):
        LoraTask(replace(LORA, model=str(upscaler)), OwnPictures(pictures), tmp_path, CPU)
    with pytest.raises(SfumatoError, match="scene prior"):
        LoraTask(replace(LORA, model="emoji", text=True), OwnPictures(pictures), tmp_path, CPU)
    with pytest.raises(SfumatoError, match=r"\[lora\] and \[whole\]"):
        DreamboothTraining(loop=LOOP, prompt="x", lora=LoraOptions(), whole=WholeOptions(text=True))


@pytest.mark.parametrize(
    ("release", "layout", "file"),
    [
        ("sd1", "safetensors", "my-heart.safetensors"),
        ("sd1", "a1111", "my-heart.pt"),
        ("sd1", "diffusers", "learned_embeds.safetensors"),
        ("sdxl", "safetensors", "my-heart.safetensors"),
    ],
)
def test_a_new_word_is_read_as_in_training(
    release: str, layout: str, file: str, released, pictures: Path, tmp_path: Path
) -> None:
    cfg = InversionTraining(
        loop=replace(LOOP, lr=0.1), model=released(release), data={"resolution": SIDE}, word="my-heart", like="red",
        vectors=2, layout=layout, sheet_steps=1,
    )  # fmt: skip
    task = InversionTask(cfg, OwnPictures(pictures), tmp_path, CPU)
    before = task.validate()["x0"]
    run(task, tmp_path)
    assert task.validate()["x0"] < before
    assert all(sample.caption.startswith("my-heart, a") for sample in task.pictures.validation())
    sd = sfumato.load(cfg.model, dtype="float32")
    sd.adapters.add(tmp_path / "export" / file, name="my-heart")
    settings = Settings.of(sd.spec, "a my-heart")
    told = sd.for_picture(settings).encode(["a my-heart"])[0].tokens
    torch.testing.assert_close(told, task.model.encode(["a my-heart"])[0].tokens, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(told, sd.encode(["a my-heart"])[0].tokens, atol=1e-3)


@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_a_hypernetwork_is_read_as_in_training(activation: str, released, pictures: Path, tmp_path: Path) -> None:
    cfg = HypernetworkTraining(
        loop=replace(LOOP, lr=3e-3), model=released("sd1"), data={"resolution": SIDE}, activation=activation,
        layers=(1, 2, 0.5, 1), name="mood", sheet_steps=1,
    )  # fmt: skip
    task = HypernetworkTask(cfg, OwnPictures(pictures), tmp_path, CPU)
    before = task.validate()["x0"]
    run(task, tmp_path)
    assert task.validate()["x0"] < before
    sd = sfumato.load(cfg.model, dtype="float32")
    sd.adapters.add(tmp_path / "export" / "mood.pt")
    samples = task.pictures.validation()[:1]
    cond, x, t = task._conditions(samples), task.latents(samples), torch.tensor([300.0])
    with torch.no_grad():
        found = sd.for_request(Settings.of(sd.spec, "a")).denoiser.network(x, t, cond)
        torch.testing.assert_close(found, task.model.denoiser.network(x, t, cond), atol=1e-4, rtol=1e-4)
    with pytest.raises(SfumatoError, match="has no U-Net"):
        HypernetworkTask(replace(cfg, model=released("sd35_medium")), OwnPictures(pictures), tmp_path, CPU)


def test_a_taste_is_learnt_from_pairs(released, pictures: Path, tmp_path: Path) -> None:
    rejected = tmp_path / "rejected"
    rejected.mkdir()
    for path in pictures.glob("*.png"):
        with Image.open(path) as image:
            Image.new("RGB", image.size, "green").save(rejected / path.name)
    cfg = DpoTraining(
        loop=replace(LOOP, lr=3e-3), model=released("sd1"), data={"resolution": SIDE}, beta=20, sheet_steps=1
    )
    task = DpoTask(cfg, OwnPictures(pictures), tmp_path, CPU, rejected)
    loss, _ = task.loss(task.batch(0))
    assert loss.item() == pytest.approx(np.log(2), abs=1e-5), "at first no picture gains"
    run(task, tmp_path)
    after = task.validate()
    assert after["accuracy"] > 0.6 and after["gained"] > 0
    (rejected / "0.png").rename(rejected / "other.png")
    with pytest.raises(SfumatoError, match="not the same pictures"):
        DpoTask(cfg, OwnPictures(pictures), tmp_path, CPU, rejected)


@pytest.mark.parametrize("release", ["sd1", "sdxl", "sd35_medium"])
@pytest.mark.filterwarnings("ignore::sfumato.errors.SfumatoWarning")
def test_a_controlnet_learns_from_ones_own_pictures(release: str, released, pictures: Path, tmp_path: Path) -> None:
    cfg = ControlNetTraining(
        loop=LOOP, model=released(release), data={"resolution": SIDE}, hint="colour", hidden=64, blocks=2, sheet_steps=1
    )
    task = ControlNetTask(cfg, OwnPictures(pictures), tmp_path, CPU)
    before, weights = task.validate()["x0"], [value.clone() for value in task.base.denoiser.network.parameters()]
    run(task, tmp_path)
    assert task.validate()["x0"] < before
    now = task.base.denoiser.network.parameters()
    assert all(torch.equal(*pair) for pair in zip(weights, now, strict=True))
    assert task.samples().height > 3 * SIDE
    file, sd = tmp_path / "export" / "control.safetensors", sfumato.load(cfg.model, dtype="float32")
    hints = (Image.new("RGB", (SIDE, SIDE), colour) for colour in ("red", "blue"))
    red, blue = (drawn(sd, control=[sfumato.Control(file, hint)]) for hint in hints)
    assert not np.array_equal(red, blue)
