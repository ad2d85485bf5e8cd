"""`sfumato control preview`, and --control."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from diffusers import ControlNetModel
from PIL import Image
from torch import nn

from sfumato.images.control import PICTURE_HINTS
from sfumato.images.inputs import load_image


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    y, x = np.mgrid[:40, :60]
    Image.fromarray(((np.hypot(x - 30, y - 20) < 12) * 200).astype(np.uint8)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_preview_writes_the_hint(run: Callable[..., Result], photo: Path, tmp_path: Path) -> None:
    for kind in ("canny", "lineart", "colour"):
        out = tmp_path / f"{kind}.png"
        result = run("control", "preview", kind, photo, "--out", out)
        assert result.exit_code == 0 and result.stdout.split() == [str(out)]
        assert load_image(out) == PICTURE_HINTS[kind](load_image(photo))
    assert run("control", "preview", "canny", photo, "--out", tmp_path / "canny.png").exit_code == 2
    wide = run("control", "preview", "canny", photo, "--out", tmp_path / "w.png", "--low", 700, "--high", 900,
               "--size", "32x32")  # fmt: skip
    assert wide.exit_code == 0 and load_image(tmp_path / "w.png").size == (32, 32)


def test_depth_is_that_of_a_models_network(
    run: Callable[..., Result], photo: Path, tmp_path: Path, depth_model: Path
) -> None:
    for kind in ("depth", "normal"):
        words = ("control", "preview", kind, photo, "--out", tmp_path / f"{kind}.png")
        assert run(*words, "--depth-model", depth_model).exit_code == 0
        without = run(*words, "--overwrite")
        assert without.exit_code == 2 and "needs a network that sees depth" in without.stderr
    depth = np.asarray(load_image(tmp_path / "depth.png"))
    assert depth.shape == (40, 60, 3) and depth.min() == 0 and depth.max() == 255
    assert np.asarray(load_image(tmp_path / "normal.png"))[..., 2].min() > 127


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("edges",), "unknown KIND 'edges'"),
        (("tile", "--low", "3"), "--low and --high are thresholds of canny"),
        (("tile", "--depth-model", "x"), "--depth-model is for depth and normal"),
        (("tile", "--size", "big"), "--size is 'big'"),
    ],
)
def test_what_cannot_be_made_is_said(
    run: Callable[..., Result], photo: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    result = run("control", "preview", words[0], photo, "--out", tmp_path / "x.png", *words[1:])
    assert result.exit_code == 2 and message in result.stderr


def test_a_picture_is_steered_from_the_command_line(
    run: Callable[..., Result], photo: Path, tmp_path: Path, model: str
) -> None:
    torch.manual_seed(0)
    network = ControlNetModel(
        block_out_channels=(32, 64), layers_per_block=1, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        cross_attention_dim=32, attention_head_dim=2,
    )  # fmt: skip
    nn.init.normal_(network.controlnet_mid_block.weight)
    network.save_pretrained(tmp_path / "steer")
    words = ("txt2img", "a cat", "--model", model, "--steps", "2", "--size", "32x32", "--seed", "1")
    assert run(*words, "--out", "plain.png").exit_code == 0
    result = run(*words, "--out", "steered.png", "--control", f"{tmp_path / 'steer'}={photo},hint=canny,weight=2")
    assert result.exit_code == 0, result.output
    assert not np.array_equal(load_image("plain.png"), load_image("steered.png"))
    assert "Module: canny, Model: steer, Weight: 2" in Image.open("steered.png").info["parameters"]
    again = ("replay", "steered.png", "--model", model, "--control-picture", photo)
    assert run(*again, "--out", "again.png").exit_code == 0
    assert np.array_equal(load_image("again.png"), load_image("steered.png"))
    (tmp_path / "steer").rename(tmp_path / "away")
    assert "there is no adapter 'steer'" in run(*again, "--out", "third.png").stderr
    assert run(*words, "--out", "x.png", "--control", f"steer={photo},weight=heavy").exit_code == 2
