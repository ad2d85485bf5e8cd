"""`--dry-run`: what is in the data, and what a run would take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from sfumato.cli.dry_run import dry_run
from sfumato.data.emoji.training import EmojiTrainingSet
from sfumato.data.pictures.protocol import SampleSource
from sfumato.data.pictures.readers.find import OwnPictures
from sfumato.errors import SfumatoError
from sfumato.train.config import LoopConfig
from sfumato.train.dry_run import estimate
from sfumato.train.registry import Method
from sfumato.train.run import Options, run_method
from sfumato.train.task import Batch

RECIPE = "[loop]\nsteps = 40\nbatch = 2\nlr = 0.1\n[data]\nrepeats = 4\n"


@dataclass(frozen=True)
class Recipe:
    loop: LoopConfig
    data: dict[str, Any] = field(default_factory=dict)


class Brightness:
    """Learns one number of a user's pictures, and remembers the sizes that it saw."""

    def __init__(self, cfg: Recipe, data: SampleSource) -> None:
        self.cfg, self.networks = cfg, nn.Linear(1, 1)
        self.pictures = data.samples(cfg.data, cfg.loop.seed, 32, 8)
        self.seen: list[tuple[int, int]] = []
        self.prepared = False

    def prepare(self) -> None:
        self.prepared = True

    def validate(self) -> dict[str, float]:
        assert self.prepared
        return {}

    def samples(self) -> Image.Image:
        return Image.new("RGB", (8, 8))

    def export(self, folder: Path) -> None:
        folder.mkdir(parents=True)

    def batch(self, step: int) -> Batch:
        samples = self.pictures.batch(step, self.cfg.loop.batch)
        self.seen.append(samples[0].size)
        return {"x": torch.stack([self.pictures.pixels(sample).mean() for sample in samples])[:, None]}

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        return self.networks(batch["x"]).square().mean(), {}


class OfPictures(Method):
    def load(self) -> tuple[type, Callable[..., Any]]:
        return Recipe, lambda cfg, data, out, device: Brightness(cfg, data)


METHOD = OfPictures("brightness", "one number", "pictures", "its square", "nothing", own_pictures=True)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    folder = tmp_path / "own"
    folder.mkdir()
    for k, size in enumerate([(32, 32), (32, 32), (30, 34), (40, 24)]):
        Image.fromarray(np.random.default_rng(k).integers(0, 256, (*size, 3), np.uint8)).save(folder / f"{k}.png")
        (folder / f"{k}.txt").write_text(f"number {k}")
    return folder


def test_it_says_what_a_run_would_take_and_writes_nothing(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = own.parent / "run"
    dry_run(METHOD, own.parent / "recipe.toml", OwnPictures(own), out, {}, Options(device="cpu"))
    said = capsys.readouterr().out
    for part in (
        "pictures  4\n", "16 samples, 8 steps of 2, at 32 px", "32x32   2         8", "number|0", "single picture",
        "learns    2 numbers", "40 of 2: 80 samples, 5 epochs", "s a step on cpu", "GiB at most",
    ):  # fmt: skip
        assert part in said, said
    assert not out.exists()


def test_data_that_is_not_ready_is_said_whole(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (own / "1.txt").unlink()
    (own / "2.png").write_bytes(b"nothing")
    with pytest.raises(SfumatoError, match=r"not ready \(2 errors\)"):
        dry_run(METHOD, own.parent / "recipe.toml", OwnPictures(own), own.parent / "run", {}, Options(device="cpu"))
    said = capsys.readouterr().out
    assert "error: pictures without a caption (1)" in said and "2.png is no PNG" in said


def test_only_a_real_run_is_prepared(own: Path) -> None:
    recipe, made = own.parent / "recipe.toml", list[Brightness]()

    class Watched(OfPictures):
        def load(self) -> tuple[type, Callable[..., Any]]:
            return Recipe, lambda cfg, data, out, device: made.append(Brightness(cfg, data)) or made[-1]

    method = Watched("brightness", "one number", "pictures", "its square", "nothing", own_pictures=True)
    for work in (dry_run, run_method):
        work(method, recipe, OwnPictures(own), own.parent / "run", {}, Options(device="cpu", steps=2))
    assert [task.prepared for task in made] == [False, True]


def test_the_step_with_the_largest_pictures_is_measured(own: Path) -> None:
    task = Brightness(Recipe(LoopConfig(steps=40, batch=1, lr=0.1)), OwnPictures(own))
    found = estimate(task, torch.device("cpu"))
    areas = {width * height for width, height in task.pictures.sizes}
    assert len(areas) > 1 and [w * h for w, h in task.seen] == [max(areas)] * 2
    assert (found.steps, found.batch, found.learnt) == (40, 1, 2) and found.seconds > 0 and found.memory > 1 << 20


def test_the_set_of_the_embedded_model_is_not_looked_through(
    emoji: EmojiTrainingSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.replace("repeats = 4", "examples = 8\nheld_out = 1"))
    dry_run(METHOD, recipe, emoji, tmp_path / "run", {}, Options(device="cpu", steps=12))
    said = capsys.readouterr().out
    assert "12 of 2: 24 samples, 3 epochs" in said and "pictures" not in said
