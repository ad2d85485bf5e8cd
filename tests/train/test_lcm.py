"""Latent consistency distillation: what it learns, and that files draw as in training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import sfumato
from sfumato.data.pictures.readers.find import OwnPictures
from sfumato.errors import SfumatoError
from sfumato.train import checkpoint
from sfumato.train.learnt import LoraOptions, WholeOptions
from sfumato.train.methods.lcm import LcmTask, LcmTraining
from sfumato.train.objective import Objective
from tuning import CPU, LOOP, SIDE, drawn, run

pytestmark = [
    pytest.mark.usefixtures("home"), pytest.mark.filterwarnings("ignore::sfumato.errors.SfumatoWarning")
]  # fmt: skip
LORA = LoraOptions(rank=4, precision="float32", name="lcm")
FAST = LcmTraining(
    loop=replace(LOOP, lr=1e-3, steps=2),
    data={"resolution": SIDE},
    sheet_steps=1,
    guidance=(1.0, 2.0),
    target_ema=0.99,
    lora=LORA,
)
WHOLE = replace(FAST, loop=replace(LOOP, lr=2e-5, steps=2), lora=None, whole=WholeOptions(precision="float32"))


def falls(task: LcmTask, lr: float) -> bool:
    """Whether a batch costs less after a few steps on it."""
    batch = task.batch(0)
    optimizer = torch.optim.Adam([one for one in task.networks.parameters() if one.requires_grad], lr=lr)
    costs = []
    for _ in range(4):
        cost, _ = task.loss(batch)
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
        costs.append(cost.item())
    return costs[-1] < costs[0]


@pytest.mark.parametrize("release", ["sd1", "sd2", "sdxl", "sd3_medium"])
def test_a_lora_of_few_steps(release: str, released, pictures: Path, tmp_path: Path) -> None:
    task = LcmTask(replace(FAST, model=released(release)), OwnPictures(pictures), tmp_path, CPU)
    assert falls(task, 1e-3)
    plain = [one.clone() for one in task.base.denoiser.network.parameters()]
    run(task, tmp_path)
    assert task.validate()["consistency"] > 0
    assert all(torch.equal(*pair) for pair in zip(plain, task.base.denoiser.network.parameters(), strict=True))
    assert task.samples().height > 3 * SIDE
    sd = sfumato.load(task.cfg.model, dtype="float32")
    few = {"sampler": "lcm", "schedule": "trailing", "cfg": 1.0}
    was = drawn(sd, **few)
    sd.adapters.add(tmp_path / "export" / "lcm.safetensors")
    assert (drawn(sd, **few) != was).any()


def test_a_whole_unet_is_told_its_guidance(released, pictures: Path, tmp_path: Path) -> None:
    task = LcmTask(replace(WHOLE, model=released("sd1")), OwnPictures(pictures), tmp_path, CPU)
    batch = task.batch(0)
    cond = replace(task.conditions(batch), guidance=batch["w"])
    x, t = batch["x0"], torch.full((len(batch["x0"]),), 300.0)
    with torch.no_grad():  # at first it is the teacher, whatever it is told
        torch.testing.assert_close(task.model.denoiser.network(x, t, cond), task.base.denoiser.network(x, t, cond))
    assert falls(task, 1e-5)
    run(task, tmp_path)
    sd = sfumato.load(tmp_path / "export", dtype="float32")
    defaults = sd.spec.defaults
    assert sd.spec.embeds_guidance and (defaults.steps, defaults.cfg, defaults.sampler) == (4, 8.0, "lcm")
    assert (drawn(sd, cfg=2.0) != drawn(sd, cfg=9.0)).any()
    diffusers = pytest.importorskip("diffusers")
    pipeline = diffusers.LatentConsistencyModelPipeline.from_pretrained(
        tmp_path / "export", local_files_only=True, safety_checker=None, requires_safety_checker=False
    )
    assert type(pipeline.scheduler).__name__ == "LCMScheduler"
    with torch.no_grad():
        embedded = pipeline.get_guidance_scale_embedding(batch["w"], embedding_dim=256)
        theirs = pipeline.unet(x, t, cond.tokens, timestep_cond=embedded).sample
        torch.testing.assert_close(theirs, task.model.denoiser.network(x, t, cond), atol=1e-4, rtol=1e-4)


def test_the_target_follows_and_is_resumed(released, pictures: Path, tmp_path: Path) -> None:
    recipe = replace(FAST, model=released("sd1"), target_ema=0.5)
    ends = []
    for name, parts in (("whole", (3,)), ("cut", (1, 3))):
        for steps in parts:
            cfg = replace(recipe, loop=replace(recipe.loop, steps=steps))
            task = LcmTask(cfg, OwnPictures(pictures), tmp_path, CPU)
            run(task, tmp_path / name)
        found = checkpoint.find(tmp_path / name)
        assert found is not None
        ends.append(checkpoint.load(found, CPU)["networks"])
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
    averages = {name: value for name, value in ends[0].items() if name.startswith("target.") and name.endswith("up")}
    assert averages
    for name, value in averages.items():
        own = ends[0][name.removeprefix("target.")]
        assert 0 < value.abs().max() < own.abs().max()


def test_the_last_step_ends_at_the_teachers_picture(released, pictures: Path, tmp_path: Path) -> None:
    task = LcmTask(replace(FAST, model=released("sd1"), guidance=(0.0, 0.0)), OwnPictures(pictures), tmp_path, CPU)
    samples = task.pictures.validation()[:1]
    x0 = task.latents(samples)
    last, end = task._levels[-2:]
    assert end == 0
    rows = {"x0": x0, "noise": torch.randn_like(x0), "sigma": last[None], "lower": end[None], "w": torch.zeros(1)}
    _, errors = task._costs(rows, task._measured(samples), samples)
    assert errors.abs().max() < 1e-4  # untrained, it estimates what the teacher does


def test_what_makes_no_sense_is_said() -> None:
    for wrong in (
        {"guidance": (3.0, 1.0)}, {"solver_steps": 1}, {"target_ema": 1.0}, {"width": 0.0},
        {"objective": Objective(min_snr=5)},
    ):  # fmt: skip
        with pytest.raises(SfumatoError, match=r"expected|of its own"):
            replace(FAST, **wrong)
