"""Models that learn to read a mask or depth beside their latents, from a folder of pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sfumato
from sfumato.data.pictures.readers.find import OwnPictures
from sfumato.errors import SfumatoError
from sfumato.pipeline.latents import encode
from sfumato.train.learnt import LoraOptions, WholeOptions
from sfumato.train.methods.depth import DepthTask, DepthTraining
from sfumato.train.methods.inpaint import InpaintTask, InpaintTraining
from tuning import CPU, LOOP, SIDE, run

pytestmark = [
    pytest.mark.usefixtures("home"), pytest.mark.filterwarnings("ignore::sfumato.errors.SfumatoWarning")
]  # fmt: skip
DATA = {"resolution": SIDE}
WHOLE = WholeOptions(precision="float32")
HOLES = InpaintTraining(loop=replace(LOOP, lr=2e-3), data=DATA, masks=2, sheet_steps=1, whole=WHOLE)
DEPTH = DepthTraining(loop=replace(LOOP, lr=2e-3), data=DATA, sheet_steps=1, whole=WHOLE)


@pytest.fixture
def depths(pictures: Path, tmp_path: Path) -> Path:
    """For each picture one in which the right is near."""
    folder = tmp_path / "depths"
    folder.mkdir()
    for path in pictures.glob("*.png"):
        with Image.open(path) as image:
            ramp = np.linspace(0, 255, image.width).astype(np.uint8)
            Image.fromarray(np.tile(ramp, (image.height, 1))).save(folder / path.name)
    return folder


@pytest.mark.parametrize(
    ("release", "becomes"),
    [("sd1", "sd1_inpainting"), ("sd2", "sd2_inpainting"), ("sdxl", "sdxl_inpainting"), ("sd35_medium", "sd35_medium"),
     ("sd1_inpainting", "sd1_inpainting")],
)  # fmt: skip
def test_a_model_learns_to_fill_holes(release: str, becomes: str, released, pictures: Path, tmp_path: Path) -> None:
    task = InpaintTask(replace(HOLES, model=released(release)), OwnPictures(pictures), tmp_path, CPU)
    spec = task.base.spec
    assert spec.family == becomes and spec.inpaints
    before, plain = task.validate()["x0"], sfumato.load(task.cfg.model, dtype="float32")
    batch = task.batch(3)
    assert all(torch.equal(value, task.batch(3)[name]) for name, value in batch.items())
    assert set(batch["beside"][:, 0].unique().tolist()) <= {0.0, 1.0}
    if release != becomes:  # its new weights are zero: it draws what it drew
        samples = task.pictures.validation()[:1]
        cond, x, t = task._measured(samples), task.latents(samples), torch.tensor([300.0])
        with torch.no_grad():
            was = plain.denoiser.network(x, t, replace(cond, concat=None))
            torch.testing.assert_close(task.model.denoiser.network(x, t, cond), was, atol=1e-4, rtol=1e-4)
    run(task, tmp_path)
    assert task.validate()["x0"] < before
    assert task.samples().height > 4 * SIDE
    found = sfumato.load(tmp_path / "export", dtype="float32")
    assert found.spec.inpaints and found.spec.family == becomes
    part = next(iter(task.networks))
    theirs = found.networks[part].state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in task.networks[part].state_dict().items())
    picture, mask = Image.new("RGB", (SIDE, SIDE), "red"), Image.new("L", (SIDE, SIDE))
    mask.paste(255, (0, 0, 32, 64))
    filled = found.inpaint(picture, "a red heart", mask=mask, steps=1, seed=1, watermark=False)[0]
    assert np.array_equal(np.asarray(filled)[:, 40:], np.asarray(picture)[:, 40:])


def test_masks_are_of_all_kinds(released, pictures: Path, tmp_path: Path) -> None:
    cfg = replace(HOLES, model=released("sd1"), masks=6, whole_mask=0.5)
    task = InpaintTask(cfg, OwnPictures(pictures), tmp_path, CPU)
    shares = torch.cat([task.batch(step)["beside"][:, 0].mean((1, 2)) for step in range(40)])
    assert 0.3 < (shares == 1).float().mean() < 0.7 and len(shares.unique()) > 6
    wide = next(sample for sample in task.pictures.validation() if sample.size[0] != sample.size[1])
    beside = task.beside(wide, None)
    assert beside.shape[2:] == (wide.size[1] // 8, wide.size[0] // 8)
    hole = task.mask(wide, 0)
    grey = task.pictures.pixels(wide)[None].where(hole == 0, 0.0)
    torch.testing.assert_close(beside[:, 1:].float(), encode(task.base.vae, grey), atol=2e-3, rtol=2e-3)
    assert torch.equal(beside[:, :1].float(), torch.nn.functional.max_pool2d(hole, 8))


@pytest.mark.parametrize(
    ("release", "becomes"), [("sd1", "sd1_depth"), ("sd2", "sd2_depth"), ("sd2_depth", "sd2_depth")]
)
def test_a_model_learns_to_follow_depth(
    release: str, becomes: str, released, pictures: Path, depths: Path, tmp_path: Path
) -> None:
    own = release == becomes
    task = DepthTask(
        replace(DEPTH, model=released(release)), OwnPictures(pictures), tmp_path, CPU, None if own else depths
    )
    assert task.base.spec.family == becomes
    before = task.validate()["x0"]
    shown = task.beside(task.pictures.validation()[0], None)
    if not own:
        assert shown[0, 0, 0, 0] == -1 and shown[0, 0, 0, -1] == 1
    run(task, tmp_path)
    assert task.validate()["x0"] < before
    assert task.samples().height > 4 * SIDE
    found = sfumato.load(tmp_path / "export", dtype="float32")
    assert found.spec.family == becomes and (found.depth is not None) == own
    with Image.open(depths / "0.png") as ramp:
        turned = ramp.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        one, other = (
            found.depth2img(None, "a red heart", depth=depth, steps=1, seed=1, watermark=False)[0]
            for depth in (ramp, turned)
        )
    assert not np.array_equal(np.asarray(one), np.asarray(other))


def test_a_network_that_sees_depth_comes_along(released, pictures: Path, tmp_path: Path) -> None:
    cfg = replace(DEPTH, model=released("sd2"), depth_model=released("sd2_depth"))
    task = DepthTask(cfg, OwnPictures(pictures), tmp_path, CPU)
    run(task, tmp_path)
    found = sfumato.load(tmp_path / "export", dtype="float32")
    assert found.depth is not None and task.base.depth is not None
    theirs = found.depth.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in task.base.depth.state_dict().items())


def test_a_lora_of_a_model_that_reads_masks(released, pictures: Path, tmp_path: Path) -> None:
    lora = LoraOptions(rank=2, precision="float32", name="filled")
    cfg = replace(HOLES, model=released("sd1_inpainting"), lora=lora, whole=WholeOptions(), loop=LOOP)
    task = InpaintTask(cfg, OwnPictures(pictures), tmp_path, CPU)
    before = task.validate()["x0"]
    run(task, tmp_path)
    assert task.validate()["x0"] < before
    sd = sfumato.load(cfg.model, dtype="float32")
    sd.adapters.add(tmp_path / "export" / "filled.safetensors")
    with pytest.raises(SfumatoError, match="which a LoRA alone cannot change"):
        InpaintTask(replace(cfg, model=released("sd1")), OwnPictures(pictures), tmp_path, CPU)


@pytest.mark.parametrize("release", ["sd1_inpainting", "sdxl_inpainting"])
def test_diffusers_opens_what_was_learnt(release: str, released, pictures: Path, tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    plain = release.removesuffix("_inpainting")
    task = InpaintTask(replace(HOLES, model=released(plain)), OwnPictures(pictures), tmp_path, CPU)
    task.export(tmp_path / "export")
    pipeline = diffusers.AutoPipelineForInpainting.from_pretrained(tmp_path / "export", local_files_only=True)
    batch = task.batch(0)
    cond = task.conditions(batch)
    x, t = batch["x0"], torch.tensor([300.0] * len(batch["x0"]))
    added = {}
    if cond.ids is not None:
        added = {"added_cond_kwargs": {"text_embeds": cond.pooled, "time_ids": cond.ids}}
    with torch.no_grad():
        theirs = pipeline.unet(torch.cat([x, cond.concat], 1), t, cond.tokens, **added).sample
        ours = task.model.denoiser.network(x, t, cond)
    assert (theirs - ours).abs().max() < 1e-4 * ours.abs().max()


def test_what_cannot_be_taught_is_said(released, pictures: Path, depths: Path, tmp_path: Path, upscaler: Path) -> None:
    own = OwnPictures(pictures)
    for release, said in (("sdxl", "reads depth; give a 1.x"), ("sd1_inpainting", "works from another picture")):
        with pytest.raises(SfumatoError, match=said):
            DepthTask(replace(DEPTH, model=released(release)), own, tmp_path, CPU, depths)
    with pytest.raises(SfumatoError, match="no network that sees depth; give --depths"):
        DepthTask(replace(DEPTH, model=released("sd1")), own, tmp_path, CPU)
    (depths / "0.png").rename(depths / "other.png")
    with pytest.raises(SfumatoError, match="not the same pictures"):
        DepthTask(replace(DEPTH, model=released("sd1")), own, tmp_path, CPU, depths)
    with pytest.raises(SfumatoError, match="sfumato train concat"):
        InpaintTask(replace(HOLES, model="emoji"), own, tmp_path, CPU)
    with pytest.raises(SfumatoError, match="works from another picture"):
        InpaintTask(replace(HOLES, model=str(upscaler)), own, tmp_path, CPU)
    for wrong in ({"masks": 0}, {"whole_mask": 1.5}):
        with pytest.raises(SfumatoError, match="expected"):
            replace(HOLES, **wrong)
