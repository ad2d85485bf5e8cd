"""What is said of a set before it is trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from sfumato.cli.main import app
from sfumato.data.pictures.check import Report, check
from sfumato.data.pictures.options import PictureOptions


def picture(path: Path, seed: int, size: tuple[int, int] = (64, 64), caption: str | None = "a caption") -> Path:
    """A smooth picture, so that a copy in another format looks alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption)
    return path


def checked(folder: Path, batch: int = 1, **options: object) -> Report:
    return check(folder, PictureOptions(**options), 64, 8, batch)


def test_a_good_set_has_nothing_wrong(tmp_path: Path) -> None:
    for k in range(4):
        picture(tmp_path / f"{k}.png", k, caption=f"number {k}")
    report = checked(tmp_path, batch=2, repeats=3, held_out=1)
    assert not report.errors and not report.notes
    assert (report.pictures, report.held_out, report.epoch) == (4, 1, 9)
    assert [(b.size, b.pictures, b.samples) for b in report.buckets] == [((64, 64), 3, 9)]


def test_everything_that_would_stop_training_is_an_error_at_once(tmp_path: Path) -> None:
    good = picture(tmp_path / "good.png", 0)
    picture(tmp_path / "silent.png", 1, caption=None)
    picture(tmp_path / "tiny.png", 2, (5, 90))
    (tmp_path / "broken.png").write_bytes(good.read_bytes()[:900])
    (tmp_path / "broken.txt").write_text("x")
    picture(tmp_path / "odd.png", 3)
    picture(tmp_path / "odd_mask.png", 4, (64, 20), caption=None)
    report = checked(tmp_path)
    text = "\n".join(report.errors)
    assert len(report.errors) == 4
    for part in ("broken.png: ", "without a caption (1): ", "tiny.png has 5x90", "odd_mask.png is 64x20"):
        assert part in text
    assert [(b.size, b.pictures) for b in report.buckets] == [((64, 64), 3)]


@pytest.mark.parametrize(("make", "note"), [
    (lambda f: (f / "b.png").write_bytes((f / "a.png").read_bytes()), "same picture several times (2)"),
    (lambda f: Image.open(f / "a.png").save(f / "b.jpg", quality=60), "look alike (2): "),
    (lambda f: Image.new("L", (64, 64)).save(f / "a_mask.png"), "a_mask.png is black"),
    (lambda f: (f / "b.tiff").write_bytes(b""), "other formats, which are left out (1)"),
    (lambda f: (f / "c.txt").write_text("x"), "without a picture (1)"),
    (lambda f: picture(f / "d.png", 7, (64, 200)), "a single picture, which fills a batch of 2"),
    (lambda f: picture(f / "d.png", 7, (30, 30), "b"), "enlarged more than 1.25 times (1)"),
    (lambda f: picture(f / "d.png", 7, (100, 1000), "b"), "of which the crop takes more than 20% (1)"),
    (lambda f: picture(f / "d.png", 7), "all captions are the same: 'a caption'"),
    (lambda f: picture(f / "d.png", 7, caption=""), "with an empty caption (1)"),
])  # fmt: skip
def test_what_looks_wrong_is_noted(tmp_path: Path, make, note: str) -> None:
    picture(tmp_path / "a.png", 0)
    make(tmp_path)
    report = checked(tmp_path, batch=2, caption_missing="allow", upscale=True)
    assert not report.errors and [one for one in report.notes if note in one], report.notes


def test_triggers_alpha_and_regularisation_are_looked_at(tmp_path: Path) -> None:
    picture(tmp_path / "own/a.png", 0)
    for k in range(3):
        picture(tmp_path / f"kept/{k}.png", k + 1, caption=None)
    report = checked(
        tmp_path / "own", trigger="sks", masks="alpha", regularisation_folder=str(tmp_path / "kept"),
        regularisation_caption="a dog",
    )  # fmt: skip
    assert report.regularisation == 3
    text = "\n".join(report.notes)
    assert "without the trigger, which is put in front of them (1)" in text
    assert "has nothing transparent" in text and "unused pictures of regularisation" in text


def test_the_command_prints_it_and_fails_on_errors(tmp_path: Path) -> None:
    picture(tmp_path / "set/a.png", 0, caption="a red apple")
    picture(tmp_path / "set/b.png", 1, (64, 32), caption="many words " * 40)
    (tmp_path / "recipe.toml").write_text("[data]\nrepeats = 5\n")
    arguments = [
        "data",
        "check",
        str(tmp_path / "set"),
        "--resolution",
        "64",
        "--config",
        str(tmp_path / "recipe.toml"),
    ]
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 0, found.output
    for part in ("10 samples, 10 steps of 1, at 64 px", "a|red|apple", "longer than a window of 75 tokens (1)"):
        assert part in found.output
    (tmp_path / "set/b.txt").unlink()
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 1 and "error: pictures without a caption (1)" in found.output
