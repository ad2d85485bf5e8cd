"""Pictures as few bytes and back, with the model that ships."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sfumato
from sfumato.api import StableDiffusion
from sfumato.errors import SfumatoError, SfumatoWarning
from sfumato.evaluate.reconstruction import psnr, ssim
from sfumato.images.tensors import to_pixels
from sfumato.pipeline.latents import decode, encode
from sfumato.tasks.compress import fingerprint


@pytest.fixture(scope="module")
def sd() -> StableDiffusion:
    return sfumato.load()


@pytest.fixture(scope="module")
def picture(sd: StableDiffusion) -> Image.Image:
    return sd.txt2img("a red heart", seed=2, watermark=False).images[0]


def distance(a: Image.Image, b: Image.Image) -> float:
    return psnr(to_pixels(a), to_pixels(b)).item()


def test_higher_quality_costs_more_and_is_nearer(sd: StableDiffusion, picture: Image.Image) -> None:
    files = [sd.compress(picture, quality=quality) for quality in (20, 50, 80, 110)]
    assert [len(file) for file in files] == sorted({len(file) for file in files})
    distances = [distance(sd.decompress(file), picture) for file in files]
    assert distances == sorted(distances) and distances[-1] > 26
    best = decode(sd.vae, encode(sd.vae, to_pixels(picture)))
    assert distance(sd.decompress(files[-1], steps=0), best) > 35


def test_denoising_repairs_what_quantisation_lost(sd: StableDiffusion, picture: Image.Image) -> None:
    file = sd.compress(picture, quality=40)
    assert distance(sd.decompress(file), picture) > distance(sd.decompress(file, steps=0), picture) + 0.5


def test_a_number_of_bytes_is_kept_and_used(sd: StableDiffusion, picture: Image.Image) -> None:
    for size in (150, 300):
        assert 0.85 * size < len(sd.compress(picture, size=size)) <= size
    with pytest.raises(SfumatoError, match=r"20 bytes are too few for this picture; allow \d+ or more"):
        sd.compress(picture, size=20)


def test_any_size_comes_back_and_the_seed_decides(sd: StableDiffusion, picture: Image.Image) -> None:
    file = sd.compress(picture.crop((0, 0, 75, 50)), prompt="a red heart")
    one, two, three = (sd.decompress(file, noise=0.5, seed=seed) for seed in (1, 1, 2))
    assert one.size == (75, 50) and one == two != three


def test_another_autoencoder_is_noticed(sd: StableDiffusion, model: str) -> None:
    other = sfumato.load(model)
    file = other.compress(Image.new("RGB", (16, 16), "red"))
    assert fingerprint(other.vae) == fingerprint(sfumato.load(model, dtype="float16").vae) != fingerprint(sd.vae)
    with pytest.warns(SfumatoWarning, match="compressed with another autoencoder than emoji's"):
        sd.decompress(file)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"quality": 121}, "quality is 121"), ({"quality": float("nan")}, "quality is nan"), ({"size": 0}, "size in by")],
)
def test_bad_arguments_are_refused(sd: StableDiffusion, arguments: dict[str, float], words: str) -> None:
    with pytest.raises(SfumatoError, match=words):
        sd.compress(Image.new("RGB", (16, 16)), **arguments)


def test_ssim_knows_equal_and_unlike_pictures(picture: Image.Image) -> None:
    x = to_pixels(picture)
    assert ssim(x, x).item() == pytest.approx(1)
    noisy = x + 0.2 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    assert 0 < ssim(x, noisy).item() < ssim(x, x * 0.95).item() < 1


def test_the_commands(run: Callable, refused: Callable, picture: Image.Image, tmp_path: Path) -> None:
    picture.save("heart.png")
    done = run("compress", "heart.png", "--bytes", 250, "--json")
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record["file"] == "heart.sfz" and record["bytes"] == (tmp_path / "heart.sfz").stat().st_size <= 250
    refused(run("decompress", "heart.sfz"), "heart.png exists; give another name, or --overwrite to replace it")
    assert run("decompress", "heart.sfz", "--out", "again.png").stdout == "again.png\n"
    with Image.open("again.png") as again:
        assert np.asarray(again).shape == (256, 256, 3)
    refused(run("decompress", "heart.png", "--out", "x.png"), "this is no compressed picture")
    refused(run("decompress", "no.sfz"), "cannot read no.sfz: No such file or directory")
    refused(run("compress", "no.png"), "no.png")
    refused(run("compress", "heart.png", "--bytes", 250, "--quality", 50), "give one of --bytes and --quality")
