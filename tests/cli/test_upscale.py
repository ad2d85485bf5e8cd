"""Drawing larger from the command line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import Result

import tiny
from sfumato.images.files import save
from sfumato.nets.srvgg import SRVGGNetCompact
from sfumato.provenance import infotext
from sfumato.provenance.embedded import read_infotext

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
    refused(run("upscale", "no.png", "--model", upscaler), "there is no file no.png")
    refused(run("upscale", small, "--model", model, "--noise-level", 3), "has no --noise-level; give a --strength")
    refused(run("upscale", small, "--upscaler", "no.pth"), "cannot open no.pth")
    refused(run("upscale", small, "--upscaler", "no.pth", "--steps", 3), "draws nothing; give --model, --strength or")
    refused(run("upscale", small, "--upscaler", small), "is a picture, not a model")
    refused(run("upscale", small, "--model", upscaler, "--scale", 3), "not 3.0; leave --scale out")
    refused(run("upscale", small, "--model", upscaler, "--noise-level", 351), "from 0 to 350")
    refused(run("txt2img", "a cat", "--model", upscaler), "use `sfumato upscale`")


def test_pixels_alone(run: Run, small: str, tmp_path: Path) -> None:
    tiny.write_file(tmp_path / "net.safetensors", tiny.randomise(SRVGGNetCompact(3, 4, 1, 4)).state_dict())
    save(Image.new("RGB", (9, 5)), tmp_path / "drawn.png", "a cat\nSteps: 3, Seed: 4, Size: 9x5, CFG scale: 1")
    done = run("upscale", "drawn.png", "--upscaler", "net.safetensors", "--scale", 3, "--out", "large.png", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["settings"] == {"upscaler": "net", "scale": 3.0}
    with Image.open(tmp_path / "large.png") as image:
        assert image.size == (27, 15)
    prompt, _, fields = infotext.parse(read_infotext(tmp_path / "large.png") or "")
    assert (prompt, fields["Seed"], fields["Size"]) == ("a cat", "4", "27x15")
    assert (fields["Postprocess upscaler"], fields["Postprocess upscale by"]) == ("net", "3")


def test_the_embedded_model_draws_over_what_an_upscaler_made(run: Run, small: str, tmp_path: Path) -> None:
    tiny.write_file(tmp_path / "net.safetensors", tiny.randomise(SRVGGNetCompact(3, 4, 1, 4)).state_dict())
    options = ("--scale", 12, "--strength", 0.4, "--steps", 3, "--overlap", 0.5, "--device", "cpu")
    done = run("upscale", small, "a cat", "--upscaler", "net.safetensors", *options, "--out", "large.png")
    assert done.exit_code == 0, done.output
    with Image.open(tmp_path / "large.png") as image:
        assert image.size == (144, 96)
