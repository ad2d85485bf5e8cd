"""Drawing larger from the command line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import Result

from sfumato.provenance import infotext
from sfumato.provenance.picture import read_infotext

Run = Callable[..., Result]


@pytest.fixture
def small(tmp_path: Path) -> str:
    Image.linear_gradient("L").resize((12, 8)).save(tmp_path / "small.png")
    return "small.png"


def test_a_picture_becomes_four_times_as_large(run: Run, upscaler: Path, small: str, tmp_path: Path) -> None:
    options = ("--model", upscaler, "--steps", 2, "--seed", 5, "--noise-level", 30, "--device", "cpu")
    done = run("upscale", small, "a cat", *options, "--out", "large.png", "--json")
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert (record["files"], record["seeds"]) == (["large.png"], [5])
    assert (record["settings"]["noise_level"], record["settings"]["width"]) == (30, 48)
    with Image.open(tmp_path / "large.png") as image:
        assert image.size == (48, 32)
    prompt, _, fields = infotext.parse(read_infotext(tmp_path / "large.png") or "")
    assert (prompt, fields["Noise level"], fields["Size"]) == ("a cat", "30", "48x32")


def test_bad_input_is_refused_in_one_line(
    run: Run, refused: Callable[..., None], upscaler: Path, model: str, small: str, tmp_path: Path
) -> None:
    refused(run("upscale", small), "emoji is", "draws no picture larger; give an upscaler")
    refused(run("upscale", "no.png", "--model", upscaler), "there is no file no.png")
    refused(run("upscale", small, "--model", model), "draws no picture larger; give an upscaler")
    refused(run("upscale", small, "--model", upscaler, "--noise-level", 351), "from 0 to 350")
    refused(run("txt2img", "a cat", "--model", upscaler), "use `sfumato upscale`")
    Image.new("L", (600, 500)).save(tmp_path / "big.png")
    refused(run("upscale", "big.png", "--model", upscaler), "the picture is 600x500; at most 262,144 pixels")
