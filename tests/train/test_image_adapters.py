"""T2I-Adapters and IP-Adapters that are trained: they learn, and their readers find what training had."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import sfumato
from sfumato.adapters import ip_adapter
from sfumato.checkpoint.open import open_checkpoint
from sfumato.data.pictures.readers.find import OwnPictures
from sfumato.errors import SfumatoError
from sfumato.loading.controls import load_control
from sfumato.nets.clip_vision import ImageStates
from sfumato.train.methods.ip_adapter import IPAdapterTask, IPAdapterTraining
from sfumato.train.methods.t2i_adapter import T2IAdapterTask, T2IAdapterTraining
from tiny.adapters import random_eye
from tuning import CPU, LOOP, SIDE, drawn, run

pytestmark = [
    pytest.mark.usefixtures("home"), pytest.mark.filterwarnings("ignore::sfumato.errors.SfumatoWarning")
]  # fmt: skip
DATA = {"resolution": SIDE}
LINES = T2IAdapterTraining(loop=replace(LOOP, lr=1e-3), data=DATA, hint="colour", sheet_steps=1)


@pytest.mark.parametrize("release", ["sd1", "sd2", "sdxl"])
def test_a_t2i_adapter_learns(release: str, released, pictures: Path, tmp_path: Path) -> None:
    task = T2IAdapterTask(replace(LINES, model=released(release)), OwnPictures(pictures), tmp_path, CPU)
    before, plain = task.validate()["x0"], [one.clone() for one in task.base.denoiser.network.parameters()]
    run(task, tmp_path)
    assert task.validate()["x0"] < before
    assert all(torch.equal(*pair) for pair in zip(plain, task.base.denoiser.network.parameters(), strict=True))
    assert task.samples().height > 3 * SIDE
    sd = sfumato.load(task.cfg.model, dtype="float32")
    found = load_control(tmp_path / "export", sd.denoiser.network)
    hint, own = torch.rand(1, 3, SIDE, SIDE), task.learnt.control
    with torch.no_grad():
        for ours, theirs in zip(own.prepare(hint), found.network.prepare(hint), strict=True):
            torch.testing.assert_close(ours, theirs, atol=2e-2, rtol=2e-2)  # its file has half the precision
    hints = (Image.new("RGB", (SIDE, SIDE), colour) for colour in ("red", "blue"))
    red, blue = (drawn(sd, control=[sfumato.Control(tmp_path / "export", one)]) for one in hints)
    assert not np.array_equal(red, blue)
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.T2IAdapter.from_pretrained(tmp_path / "export")
    with torch.no_grad():
        for ours, other in zip(found.network.prepare(hint), theirs(hint), strict=True):
            torch.testing.assert_close(ours, other, atol=1e-5, rtol=1e-5)


@pytest.fixture
def eye(tmp_path: Path) -> Path:
    save_file(random_eye(), tmp_path / "eye.safetensors")
    return tmp_path / "eye.safetensors"


@pytest.mark.parametrize(("release", "kind"), [("sd1", "plain"), ("sd1", "plus"), ("sd2", "plain"), ("sdxl", "plus")])
def test_an_ip_adapter_learns(release: str, kind: str, released, pictures: Path, tmp_path: Path, eye: Path) -> None:
    cfg = IPAdapterTraining(
        loop=replace(LOOP, lr=1e-3), model=released(release), data=DATA, image_encoder=str(eye), kind=kind, queries=3,
        precision="float32", name="seen", sheet_steps=1,
    )  # fmt: skip
    task = IPAdapterTask(cfg, OwnPictures(pictures), tmp_path, CPU)
    before, plain = task.validate()["x0"], [one.clone() for one in task.base.denoiser.network.parameters()]
    first = task.learnt.adapter.ip_adapter[0].to_k_ip.weight.clone()
    run(task, tmp_path)
    assert task.validate()["x0"] < before
    assert all(torch.equal(*pair) for pair in zip(plain, task.base.denoiser.network.parameters(), strict=True))
    assert not torch.equal(first, task.learnt.adapter.ip_adapter[0].to_k_ip.weight)
    assert task.samples().height > 3 * SIDE
    path, sd = tmp_path / "export" / "seen.safetensors", sfumato.load(cfg.model, dtype="float32")
    assert "ip_adapter.1.to_k_ip.weight" in load_file(path)
    with open_checkpoint(path) as checkpoint:
        found = ip_adapter.read(checkpoint, sd.denoiser.network, "this model")
    for name, value in task.learnt.adapter.state_dict().items():
        assert torch.equal(value, found.state_dict()[name])
    sample = task.pictures.validation()[0]
    states = task._eye(Image.open(pictures / "0.png").convert("RGB"))
    seen = task._seen(sample)[None].float()
    with torch.no_grad():
        tokens = task.learnt.adapter.image_proj(ImageStates((seen, seen), seen))
        torch.testing.assert_close(tokens, found.image_proj(states), atol=2e-2, rtol=2e-2)
    shown = (Image.new("RGB", (SIDE, SIDE), colour) for colour in ("red", "blue"))
    red, blue = (drawn(sd, ip_adapter=sfumato.ImagePrompt(str(path), one, encoder=str(eye))) for one in shown)
    assert not np.array_equal(red, blue)


def test_diffusers_draws_with_a_trained_ip_adapter(released, pictures: Path, tmp_path: Path, eye: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    cfg = IPAdapterTraining(
        loop=LOOP, model=released("sd1"), data=DATA, image_encoder=str(eye), precision="float32", sheet_steps=1
    )
    task = IPAdapterTask(cfg, OwnPictures(pictures), tmp_path, CPU)
    task.export(tmp_path / "export")
    unet = diffusers.UNet2DConditionModel.from_pretrained(cfg.model, subfolder="unet")
    parts: dict[str, dict[str, torch.Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for name, value in load_file(tmp_path / "export" / "ip-adapter.safetensors").items():
        part, _, rest = name.partition(".")
        parts[part][rest] = value
    unet._load_ip_adapter_weights([parts], low_cpu_mem_usage=False)
    batch = task.batch(0)
    cond, t = task.conditions(batch), torch.full((len(batch["x0"]),), 300.0)
    with torch.no_grad():
        added = {"image_embeds": [batch["seen"][:, None]]}
        theirs = unet(batch["x0"], t, cond.tokens, added_cond_kwargs=added).sample
        ours = task.model.denoiser.network(batch["x0"], t, cond)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_pictures_are_left_out_now_and_then(released, pictures: Path, tmp_path: Path, eye: Path) -> None:
    data = {**DATA, "caption_dropout": 0.5}
    cfg = IPAdapterTraining(
        loop=LOOP, model=released("sd1"), data=data, image_encoder=str(eye), image_dropout=0.2, sheet_steps=1
    )
    task = IPAdapterTask(cfg, OwnPictures(pictures), tmp_path, CPU)
    rows = [
        (bool(sample.caption), bool(seen.any()))
        for step in range(80)
        for sample, seen in zip(task._samples(step), task.batch(step)["seen"], strict=True)
    ]
    captioned, bare = ([seen for words, seen in rows if words is wanted] for wanted in (True, False))
    assert 0.65 < np.mean(captioned) < 0.92 and 0.3 < np.mean(bare) < 0.7


def test_what_cannot_be_trained_is_said(released, pictures: Path, tmp_path: Path, eye: Path) -> None:
    with pytest.raises(SfumatoError, match="has no U-Net, which a T2I-Adapter steers"):
        T2IAdapterTask(replace(LINES, model=released("sd3_medium")), OwnPictures(pictures), tmp_path, CPU)
    cfg = IPAdapterTraining(loop=LOOP, model=released("sd3_medium"), data=DATA, image_encoder=str(eye))
    with pytest.raises(SfumatoError, match="has no U-Net, whose attentions"):
        IPAdapterTask(cfg, OwnPictures(pictures), tmp_path, CPU)
    for wrong in ({"queries": 0}, {"hidden": 65}, {"image_dropout": 2.0}):
        with pytest.raises(SfumatoError, match="expected"):
            replace(cfg, **wrong)
    with pytest.raises(SfumatoError, match="blocks is 0"):
        replace(LINES, blocks=0)
